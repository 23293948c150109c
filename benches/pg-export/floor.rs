//! How little client CPU can Postgres -> JSONL take? Std only: Unix socket, startup without password, COPY text, one pass over every
//! CopyData row straight into a JSON line. Not a product: no TLS, no authentication, column kinds by argument, no error handling.
//!
//! floor SOCKET_FILE USER DATABASE TABLE "name:kind,name:kind,..." OUT_PREFIX CONNECTIONS PAGES [null]
//! Kinds: n number or verbatim, s string, j json or jsonb, b bool, t timestamptz, a text[]. With null, nothing is written.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
};

/// A JSON string, without its quotes.
fn esc(o: &mut Vec<u8>, s: &[u8]) {
    let mut from = 0;
    for (i, &c) in s.iter().enumerate() {
        if c >= 0x20 && c != b'"' && c != b'\\' {
            continue;
        }
        o.extend_from_slice(&s[from..i]);
        from = i + 1;
        match c {
            b'"' => o.extend_from_slice(b"\\\""),
            b'\\' => o.extend_from_slice(b"\\\\"),
            b'\n' => o.extend_from_slice(b"\\n"),
            b'\r' => o.extend_from_slice(b"\\r"),
            b'\t' => o.extend_from_slice(b"\\t"),
            _ => {
                let _ = write!(o, "\\u{:04x}", c);
            }
        }
    }
    o.extend_from_slice(&s[from..]);
}

/// Undoes the escapes of COPY text; `t` is scratch.
fn unesc<'a>(s: &'a [u8], t: &'a mut Vec<u8>) -> &'a [u8] {
    if !s.contains(&b'\\') {
        return s;
    }
    t.clear();
    let mut i = 0;
    while i < s.len() {
        if s[i] != b'\\' {
            t.push(s[i]);
            i += 1;
            continue;
        }
        i += 1;
        t.push(match s[i] {
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'v' => 11,
            c => c,
        });
        i += 1;
    }
    &t[..]
}

/// A text[] literal as a JSON array.
fn array(o: &mut Vec<u8>, s: &[u8], q: &mut Vec<u8>) {
    o.push(b'[');
    let mut i = 1;
    let mut first = true;
    while i < s.len() && s[i] != b'}' {
        if !first {
            o.push(b',');
            i += 1;
        }
        first = false;
        if s[i] == b'"' {
            q.clear();
            i += 1;
            while s[i] != b'"' {
                if s[i] == b'\\' {
                    i += 1;
                }
                q.push(s[i]);
                i += 1;
            }
            i += 1;
            o.push(b'"');
            esc(o, q);
            o.push(b'"');
        } else {
            let b = i;
            while s[i] != b',' && s[i] != b'}' {
                i += 1;
            }
            if &s[b..i] == b"NULL" {
                o.extend_from_slice(b"null")
            } else {
                o.push(b'"');
                esc(o, &s[b..i]);
                o.push(b'"')
            }
        }
    }
    o.push(b']');
}

/// One row as a JSON line.
fn row(o: &mut Vec<u8>, line: &[u8], cols: &[(Vec<u8>, u8)], t: &mut Vec<u8>, q: &mut Vec<u8>) {
    let mut p = 0;
    for (name, kind) in cols {
        let e = line[p..].iter().position(|&c| c == b'\t').map_or(line.len(), |x| p + x);
        let f = &line[p..e];
        p = e + 1;
        o.extend_from_slice(name);
        if f == b"\\N" {
            o.extend_from_slice(b"null");
            continue;
        }
        match kind {
            b'n' => o.extend_from_slice(f),
            b'b' => o.extend_from_slice(if f == b"t" { b"true" } else { b"false" }),
            b'j' => {
                let u = unesc(f, t);
                o.extend_from_slice(u)
            }
            b't' => {
                o.push(b'"');
                o.extend_from_slice(&f[..10]);
                o.push(b'T');
                o.extend_from_slice(&f[11..]);
                o.extend_from_slice(b":00\"")
            }
            b'a' => {
                let u = unesc(f, t);
                array(o, u, q)
            }
            _ => {
                o.push(b'"');
                let u = unesc(f, t);
                esc(o, u);
                o.push(b'"')
            }
        }
    }
    o.extend_from_slice(b"}\n");
}

/// One connection: one statement, one file. Gives rows and bytes.
fn job(sock: &str, user: &str, db: &str, sql: String, cols: Vec<(Vec<u8>, u8)>, mut out: Option<File>) -> (u64, u64) {
    let mut c = UnixStream::connect(sock).unwrap();
    let mut m = vec![0, 3, 0, 0];
    for (k, v) in [("user", user), ("database", db)] {
        m.extend(k.bytes());
        m.push(0);
        m.extend(v.bytes());
        m.push(0);
    }
    m.push(0);
    c.write_all(&((m.len() + 4) as u32).to_be_bytes()).unwrap();
    c.write_all(&m).unwrap();
    let (mut buf, mut a, mut b) = (vec![0u8; 1 << 18], 0usize, 0usize);
    let (mut o, mut t, mut q) = (Vec::with_capacity((1 << 18) + 65536), vec![], vec![]);
    let (mut rows, mut bytes, mut sent) = (0u64, 0u64, false);
    loop {
        while b - a >= 5 {
            let n = u32::from_be_bytes(buf[a + 1..a + 5].try_into().unwrap()) as usize + 1;
            if buf.len() < n {
                buf.resize(n * 2, 0);
            }
            if b - a < n {
                break;
            }
            match buf[a] {
                b'd' => {
                    row(&mut o, &buf[a + 5..a + n - 1], &cols, &mut t, &mut q);
                    rows += 1;
                    if o.len() >= 1 << 18 {
                        bytes += o.len() as u64;
                        if let Some(f) = &mut out {
                            f.write_all(&o).unwrap();
                        }
                        o.clear();
                    }
                }
                b'E' => panic!("{}", String::from_utf8_lossy(&buf[a + 5..a + n])),
                b'Z' if !sent => {
                    sent = true;
                    let s = sql.as_bytes();
                    let mut m = vec![b'Q'];
                    m.extend(((s.len() + 5) as u32).to_be_bytes());
                    m.extend(s);
                    m.push(0);
                    c.write_all(&m).unwrap();
                }
                b'Z' => {
                    bytes += o.len() as u64;
                    if let Some(f) = &mut out {
                        f.write_all(&o).unwrap();
                    }
                    return (rows, bytes);
                }
                _ => {}
            }
            a += n;
        }
        buf.copy_within(a..b, 0);
        b -= a;
        a = 0;
        let n = c.read(&mut buf[b..]).unwrap();
        if n == 0 {
            panic!("eof")
        }
        b += n;
    }
}

fn main() {
    let v: Vec<String> = std::env::args().collect();
    let cols: Vec<(Vec<u8>, u8)> = v[5]
        .split(',')
        .enumerate()
        .map(|(i, c)| {
            let (n, k) = c.split_once(':').unwrap();
            (format!("{}\"{}\":", if i == 0 { "{" } else { "," }, n).into_bytes(), k.as_bytes()[0])
        })
        .collect();
    let n: usize = v[7].parse().unwrap();
    let pages: usize = v[8].parse().unwrap();
    let null = v.len() > 9;
    let hs: Vec<_> = (0..n)
        .map(|i| {
            let (v, cols) = (v.clone(), cols.clone());
            thread::spawn(move || {
                let sql = if n == 1 {
                    format!("COPY {} TO STDOUT", v[4])
                } else {
                    let (lo, hi) = (pages * i / n, pages * (i + 1) / n);
                    format!(
                        "COPY (SELECT * FROM {} WHERE ctid >= '({},0)'{}) TO STDOUT",
                        v[4],
                        lo,
                        if i + 1 == n { String::new() } else { format!(" AND ctid < '({},0)'", hi) }
                    )
                };
                let f = (!null).then(|| File::create(format!("{}-{}.jsonl", v[6], i)).unwrap());
                job(&v[1], &v[2], &v[3], sql, cols, f)
            })
        })
        .collect();
    let r = hs.into_iter().map(|h| h.join().unwrap()).fold((0, 0), |x, y| (x.0 + y.0, x.1 + y.1));
    println!("{} rows {} bytes", r.0, r.1);
}
