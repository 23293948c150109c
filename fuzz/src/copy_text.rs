//! Rows of COPY text as JSON lines, against a slow way of the same and `serde_json`.

use serde_json::Value;
use sluicegate::format::Output;
use sluicegate::format::copy_text::{Kind, PADDING, RowEncoder, RowFault, Scratch};

/// The first byte says what columns there are. As they are, the bytes behind it are a row that a broken server sends; read as text and
/// written as COPY would, they are a row of a sound one.
pub fn copy_text(data: &[u8]) {
    let Some((shape, bytes)) = data.split_first() else { return };
    any_row(*shape, bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        sound_row(*shape, text);
    }
}

fn array(element: Kind) -> Kind {
    Kind::Array { element: Box::new(element), delimiter: b',' }
}

fn encode(kinds: Vec<Kind>, row: &[u8]) -> Result<(usize, Vec<u8>), RowFault> {
    let names: Vec<String> = (0..kinds.len()).map(|column| format!("c\"{column}")).collect();
    let encoder = RowEncoder::new(names.iter().map(String::as_str).zip(kinds));
    let mut padded = row.to_vec();
    padded.resize(row.len() + PADDING, 0);
    let mut output = Output::default();
    let end = encoder.encode(&padded, 0, &mut output, &mut Scratch::default());
    if end.is_err() {
        assert!(output.is_empty(), "a refused row left something behind");
    }
    Ok((end?, output.bytes().to_vec()))
}

/// Whatever it is, the row is refused or becomes one line, and nothing behind it is looked at.
fn any_row(shape: u8, bytes: &[u8]) {
    let kinds = match shape % 8 {
        0 => vec![Kind::Text],
        1 => vec![Kind::Bool, Kind::Text, Kind::Text],
        2 => vec![Kind::Json, Kind::Text],
        3 => vec![Kind::Timestamp, Kind::TimestampTz, Kind::Number, Kind::Integer],
        4 => vec![array(Kind::Text)],
        5 => vec![array(Kind::Number), array(array(Kind::Json))],
        6 => vec![Kind::Vector(Box::new(Kind::Integer)), array(Kind::TimestampTz)],
        _ => vec![],
    };
    let is_exact = shape % 8 < 2 || shape % 8 == 4;
    let mut row = bytes.to_vec();
    row.push(b'\n');
    let Ok((end, line)) = encode(kinds, &row) else { return };
    assert!(end <= row.len() && row[end - 1] == b'\n', "the row ends at {end} of {}", row.len());
    assert!(line.iter().filter(|byte| **byte == b'\n').count() == 1 && line.ends_with(b"\n"), "no line: {line:?}");
    if is_exact && std::str::from_utf8(&row[..end]).is_ok() {
        let read = serde_json::from_slice::<Value>(&line);
        assert!(read.is_ok(), "{read:?}: {}", String::from_utf8_lossy(&line));
    }
}

/// As COPY writes a value.
fn copied(text: &str) -> String {
    let mut field = String::new();
    for character in text.chars() {
        match character {
            '\\' => field.push_str("\\\\"),
            '\u{8}' => field.push_str("\\b"),
            '\u{c}' => field.push_str("\\f"),
            '\n' => field.push_str("\\n"),
            '\r' => field.push_str("\\r"),
            '\t' => field.push_str("\\t"),
            '\u{b}' => field.push_str("\\v"),
            other => field.push(other),
        }
    }
    field
}

/// As the server writes an array of texts: everything in quotes.
fn array_text(items: &[&str]) -> String {
    let quoted = |item: &&str| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", items.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// A row of texts, an array of them, a number, JSON and NULL, as a server sends it, becomes what they are.
fn sound_row(shape: u8, text: &str) {
    if text.contains('\0') {
        return;
    }
    let parts: Vec<&str> = text.split('|').collect();
    let number = format!("{}{}.5", if shape & 1 == 0 { "-" } else { "" }, u64::from(shape) * 1_000_003);
    let json = Value::Array(parts.iter().map(|part| Value::from(*part)).collect());
    let fields =
        [copied(parts[0]), copied(&array_text(&parts)), number.clone(), copied(&json.to_string()), "\\N".into(), "t".into(), copied(text)];
    let kinds = vec![Kind::Text, array(Kind::Text), Kind::Number, Kind::Json, Kind::Text, Kind::Bool, Kind::Text];
    let row = fields.join("\t") + "\n";
    let (end, line) = encode(kinds, row.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {row:?}"));
    assert_eq!(end, row.len());
    let read: Value = serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)));
    let read: Vec<&Value> = read.as_object().expect("an object").values().collect();
    let expected = [
        Value::from(parts[0]),
        json.clone(),
        serde_json::from_str(&number).expect("a number"),
        json,
        Value::Null,
        Value::Bool(true),
        Value::from(text),
    ];
    assert!(read.iter().copied().eq(&expected), "{read:?} of {row:?}");
}
