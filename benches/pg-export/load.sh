#!/usr/bin/env bash
# load.sh [SCALE_PERCENT=100]   (Re)creates the bench tables in the cluster of pg.sh. Deterministic (setseed).
#   lineitem 4,000,000  events 2,000,000  wide 200,000   + quarter-size copies lineitem_q events_q wide_q (memory growth,
#   slow peers) + lineitem_s (200,000: very slow peers) + hard (one row per awkward value: correctness).
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
S=${1:-100}
CONN=$("$HERE/pg.sh" sock)
psql "$CONN" -q -v ON_ERROR_STOP=1 -v li=$((1000000*S/100)) -v ev=$((2000000*S/100)) -v wi=$((200000*S/100)) <<'SQL'
SET client_min_messages = warning;
\timing on
DROP TABLE IF EXISTS lineitem, lineitem_q, lineitem_s, events, events_q, wide, wide_q, hard, hard_m, hard_r3, hard_r5, hard_r9, hard_r13, hard_r15, hard_r16;
BEGIN;
SELECT setseed(0.42);
CREATE TABLE lineitem (
  l_orderkey bigint NOT NULL, l_partkey int NOT NULL, l_suppkey int NOT NULL, l_linenumber int NOT NULL,
  l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
  l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL,
  l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
  l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL);
-- :li orders of 4 lines each; order keys are sparse as in TPC-H (8 used of every 32)
INSERT INTO lineitem
SELECT ((o >> 3) << 5) + (o & 7), pk, 1 + (pk * 7 + ln) % 10000, ln,
  q, round((q * (900 + (pk % 20000) / 100.0 + (pk % 1000)))::numeric, 2),
  (floor(r1 * 11) / 100)::numeric(15,2), (floor(r2 * 9) / 100)::numeric(15,2),
  CASE WHEN d > 1263 THEN 'N' WHEN r1 < 0.5 THEN 'R' ELSE 'A' END, CASE WHEN d > 1263 THEN 'O' ELSE 'F' END,
  date '1992-01-02' + d, date '1992-01-31' + d + (r2 * 60)::int - 30, date '1992-01-03' + d + (r1 * 29)::int,
  (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1 + (pk % 4)],
  (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1 + (pk % 7)],
  substr((ARRAY['carefully final deposits ','furiously express pinto beans ','slyly regular requests ','blithely even accounts ','quickly bold ideas '])[1 + (pk % 5)]
    || (ARRAY['sleep across the ironic theodolites','haggle above the silent packages','nag. pending foxes','wake after the special dugouts','cajole ruthlessly'])[1 + ((pk / 5) % 5)],
    1 + (pk % 6), 10 + (pk % 35))
FROM (SELECT o, ln, 1 + floor(random() * 200000)::int AS pk, (1 + floor(random() * 50))::numeric(15,2) AS q,
        random() AS r1, random() AS r2, floor(random() * 2500)::int AS d
      FROM (SELECT 1 + (i - 1) / 4 AS o, 1 + (i - 1) % 4 AS ln FROM generate_series(1, :li * 4) i) s OFFSET 0) g;
COMMIT;
ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber);

BEGIN;
CREATE TABLE events (id bigserial, user_id uuid, event_type text, value double precision, ts timestamptz NOT NULL,
  metadata jsonb, tags text[], active boolean);
INSERT INTO events (user_id, event_type, value, ts, metadata, tags, active)
SELECT CASE WHEN i % 50 = 0 THEN NULL ELSE md5((i::bigint * 7919)::text)::uuid END,
  (ARRAY['page_view','click','purchase','sign_up','log_out','add_to_cart','search'])[1 + (r1 * 6.99)::int % 7],
  CASE WHEN i % 20 = 0 THEN NULL WHEN i % 3 = 0 THEN round((r1 * 1000)::numeric, 2)::float8 ELSE (r1 - 0.5) * 1e6 END,
  timestamptz '2024-01-01 00:00:00+00' + i * interval '7.123456 seconds',
  CASE WHEN i % 25 = 0 THEN NULL ELSE jsonb_build_object(
    'session', md5(i::text), 'n', (r2 * 100000)::int,
    'ref', CASE WHEN i % 4 = 0 THEN NULL ELSE 'https://example.com/p/' || (r2 * 9999)::int || '?q=a&b=c' END,
    'ua', jsonb_build_object('os', (ARRAY['linux','mac','win'])[1 + i % 3], 'v', ARRAY[i % 20, i % 7]),
    'note', CASE i % 10 WHEN 0 THEN E'line one\nline two\t"quoted" C:\\path' WHEN 1 THEN 'zażółć gęślą jaźń — 日本語 😀' WHEN 2 THEN 'he said "hi"' ELSE 'plain note ' || i END) END,
  CASE WHEN i % 15 = 0 THEN NULL WHEN i % 7 = 0 THEN '{}'::text[] WHEN i % 11 = 0 THEN ARRAY['a "q" tag', E'back\\slash', NULL, 'ü,comma']
    ELSE ARRAY['t' || (i % 97), 'grp' || (i % 13)] END,
  CASE WHEN i % 30 = 0 THEN NULL ELSE r2 < 0.6 END
FROM (SELECT i, random() AS r1, random() AS r2 FROM generate_series(1, :ev) i OFFSET 0) g;
COMMIT;
ALTER TABLE events ADD PRIMARY KEY (id);

BEGIN;
CREATE TABLE wide (id bigint, title text, body text NOT NULL, created timestamptz NOT NULL);
-- about 2 KB of hex noise + words; poorly compressible, so part of the rows may be TOASTed (sizes are printed at the end)
INSERT INTO wide
SELECT i, 'Document "' || i || E'"',
  (SELECT string_agg(md5((i::bigint * 100 + k)::text) || CASE WHEN k % 8 = 0 THEN E'\n' WHEN k % 8 = 4 THEN ' "ü" ' ELSE ' lorem ipsum ' END, '' ORDER BY k)
     FROM generate_series(1, 46) k),
  timestamptz '2024-01-01 00:00:00+00' + i * interval '1 minute'
FROM generate_series(1, :wi) i;
COMMIT;
ALTER TABLE wide ADD PRIMARY KEY (id);

CREATE TABLE lineitem_q AS SELECT * FROM lineitem WHERE ctid < ('(' || (SELECT pg_relation_size('lineitem') / 8192 / 4) || ',0)')::tid;
ALTER TABLE lineitem_q ADD PRIMARY KEY (l_orderkey, l_linenumber);
CREATE TABLE lineitem_s AS SELECT * FROM lineitem_q LIMIT :li / 5;
ALTER TABLE lineitem_s ADD PRIMARY KEY (l_orderkey, l_linenumber);
CREATE TABLE events_q AS SELECT * FROM events WHERE id <= :ev / 4;
ALTER TABLE events_q ADD PRIMARY KEY (id);
CREATE TABLE wide_q AS SELECT * FROM wide WHERE id <= :wi / 4;
ALTER TABLE wide_q ADD PRIMARY KEY (id);

CREATE TABLE hard (id int PRIMARY KEY, what text, i8 bigint, num numeric, f8 double precision, f4 real, txt text, ts timestamptz,
  tsn timestamp, d date, tm time, iv interval, b bytea, u uuid, j json, jb jsonb, ta text[], ia int[], ma int[], ok boolean);
INSERT INTO hard VALUES
 (1,'max bigint',9223372036854775807,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,true),
 (2,'bigint over 2^53',9007199254740993,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,true),
 (3,'numeric 30 digits',NULL,123456789012345678901234567890.123456789,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,true),
 (4,'numeric 0.10 scale',NULL,0.10,0.1,0.1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,false),
 (5,'numeric NaN',NULL,'NaN',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (6,'float NaN',NULL,NULL,'NaN','NaN',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (7,'float Infinity',NULL,NULL,'Infinity','-Infinity',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (8,'escapes',NULL,NULL,NULL,NULL,E'q" b\\ n\n r\r t\t bell\x07 del\x7f / \u2028 😀',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (9,'time usec',NULL,NULL,NULL,NULL,NULL,'2024-02-29 12:34:56.123456+00','2024-02-29 12:34:56.123456','2024-02-29','12:34:56.123456','1 year 2 mons 3 days 04:05:06.789',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (10,'bytea, uuid',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'\xdeadbeef00','6f1ed002-ab5d-4f2a-9c11-7d1c34ad6a01',NULL,NULL,NULL,NULL,NULL,NULL),
 (11,'json spacing / dup keys',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"a" : 1,   "a": 2,
 "nl": "x\ny"}','{"big": 12345678901234567890.5, "n": {"s": "q\"\\ ü"}}',NULL,NULL,NULL,NULL),
 (12,'json scalar null vs sql null',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'null','null',NULL,NULL,NULL,NULL),
 (13,'arrays',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,ARRAY['a',NULL,'NULL','q"','b\'],ARRAY[1,NULL,3],ARRAY[[1,2],[3,4]],NULL),
 (14,'empty array, empty text',NULL,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}','{}','{}',NULL),
 (15,'infinity dates',NULL,NULL,NULL,NULL,NULL,'infinity','-infinity','infinity',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 (16,'BC date',NULL,NULL,NULL,NULL,NULL,'0044-03-15 00:00:00+00 BC','0044-03-15 00:00:00 BC','0044-03-15 BC',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
-- hard_m: the awkward values that most exporters survive; hard_rN: one awkward value each (who fails on what)
DROP TABLE IF EXISTS hard_m;
CREATE TABLE hard_m AS SELECT id, what, i8, num, f8, f4, txt, ts, tsn, d, tm, b, u, j, jb, ta, ia, ok FROM hard WHERE id NOT IN (3, 5, 15, 16);
CREATE TABLE hard_r3 AS SELECT id, num FROM hard WHERE id = 3;
CREATE TABLE hard_r5 AS SELECT id, num FROM hard WHERE id = 5;
CREATE TABLE hard_r9 AS SELECT id, iv FROM hard WHERE id = 9;
CREATE TABLE hard_r13 AS SELECT id, ma FROM hard WHERE id = 13;
CREATE TABLE hard_r15 AS SELECT id, ts, tsn, d FROM hard WHERE id = 15;
CREATE TABLE hard_r16 AS SELECT id, ts, tsn, d FROM hard WHERE id = 16;
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
\timing off
SELECT relname, reltuples::bigint AS rows, pg_size_pretty(pg_table_size(oid)) AS heap_toast FROM pg_class WHERE relname ~ '^(lineitem|events|wide|hard)' AND relkind='r' ORDER BY 1;
SQL
