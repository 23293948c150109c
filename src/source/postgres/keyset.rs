//! Ranges by a unique key: each is read in a short transaction of its own, at a moment of its own, so that nothing holds a snapshot for
//! long and a table that is being written can be gone on with.
//!
//! A row that keeps its key belongs to one range and to no other, whatever happens around it. So it is read once, though not at the same
//! moment as its neighbours in other ranges.

use super::catalog::{self, Relation, RelationKind};
use super::export::{Range, Request, refused};
use super::session::{Row, Session};
use super::sql::{fragment, identifier, literal, qualified};
use crate::trouble::Trouble;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Bytes of table behind a range: as many as page ranges have.
const RANGE_BYTES: u64 = 2 << 20;

/// More ranges than this are not made: from 32 GiB on they get larger instead, so that plan and journal stay small.
const MOST_RANGES: u64 = 16_384;

/// Pages that are looked at for each range. Rows that stand together often have keys that do, so it is pages that count, not rows.
const SAMPLED_PAGES: u64 = 8;

/// Tables up to this size are not sampled: the bounds are picked among all keys.
const WHOLE_PAGES: u64 = 4096;

/// Characters of a bound that people are shown at most.
const SHOWN_CHARACTERS: usize = 40;

/// Which unique key makes the ranges. By default the primary key, else the smallest that can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChoice {
    /// The columns of a unique index, in any order.
    pub columns: Option<Vec<String>>,
}

/// A key by which rows are told apart and put in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its columns, the most significant first.
    pub columns: Vec<String>,
    /// Their types, as SQL names them.
    pub types: Vec<String>,
    /// The versions of their collations, as the server has them now; another one may order text otherwise.
    pub collations: Vec<Option<String>>,
}

/// How a table is cut into key ranges. Journaled: bounds are fixed when a target is begun. The first range is open below and the last one
/// above, so that rows beyond the bounds belong to a range too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCut {
    /// Into how many outputs.
    pub parts: u32,
    /// What the bounds are keys of.
    pub key: Key,
    /// Where each range but the first begins: a text for each column.
    pub bounds: Vec<Vec<String>>,
}

/// A unique index, looked at as a key.
struct Index {
    name: String,
    key: Key,
    /// What speaks against it.
    unfit: Option<String>,
}

/// What is read by key ranges.
pub(super) struct Keys {
    relation: Relation,
    key: Key,
    /// Pages and bytes of all heaps behind it.
    pages: u64,
    list: String,
    filter: Option<String>,
    parts: u32,
    guard: Guard,
}

/// Says in each range's transaction that the table is still the one that was planned for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// Takes the lock before the snapshot, and asks for the table's shape; ends with a semicolon.
    ///
    /// Without the lock, a range that waits for an `ALTER TABLE` which rewrites the table would look at it with a snapshot from before, and
    /// see no row at all.
    pub sql: String,
    /// What it has to answer.
    pub shape: String,
    /// The table, for people.
    pub shown: String,
}

/// The unique indexes of a table, a row for each column, the best key first.
fn indexes_sql(oid: u32) -> String {
    format!(
        "SELECT ic.relname, i.indisvalid AND i.indisready AND i.indislive, i.indimmediate, i.indpred IS NOT NULL, am.amname = 'btree',
            a.attname, a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint n WHERE n.conrelid = a.attrelid AND n.contype = 'n'
                AND NOT n.convalidated AND a.attnum = ANY (n.conkey)),
            pg_catalog.format_type(a.atttypid, -1), o.opcdefault AND i.indcollation[k.place - 1] = a.attcollation,
            pg_catalog.pg_collation_actual_version(nullif(a.attcollation, 0))
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid JOIN pg_catalog.pg_am am ON am.oid = ic.relam
            CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts) k(place)
            JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k.place - 1]
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place - 1]
         WHERE i.indrelid = {oid} AND i.indisunique
         ORDER BY NOT i.indisprimary, i.indnkeyatts, CASE WHEN ic.relkind = 'i' THEN pg_catalog.pg_relation_size(ic.oid) END, ic.relname, k.place"
    )
}

fn indexes(session: &mut Session, relation: &Relation) -> Result<Vec<Index>, Trouble> {
    let rows = session.ask(&indexes_sql(relation.oid), &format!("look up the keys of {}", relation.shown()))?;
    let mut found: Vec<Index> = Vec::new();
    for row in &rows {
        let name = row[0].clone().unwrap_or_default();
        if found.last().is_none_or(|index| index.name != name) {
            found.push(Index { name, key: Key { columns: Vec::new(), types: Vec::new(), collations: Vec::new() }, unfit: None });
        }
        let Some(index) = found.last_mut() else { continue };
        index.unfit = index.unfit.take().or_else(|| unfit(row));
        index.key.columns.push(row[5].clone().unwrap_or_default());
        index.key.types.push(row[7].clone().unwrap_or_default());
        index.key.collations.push(row[9].clone());
    }
    Ok(found)
}

/// What speaks against a key, by one of its columns.
fn unfit(row: &Row) -> Option<String> {
    let is = |column: usize| row[column].as_deref() == Some("t");
    let Some(column) = &row[5] else { return Some("is over an expression".into()) };
    if !is(6) {
        return Some(format!("has {column}, which may be NULL (ALTER TABLE … ALTER COLUMN {} SET NOT NULL)", identifier(column)));
    }
    match () {
        () if !is(1) => Some("is not valid (REINDEX)".into()),
        () if !is(2) => Some("is deferrable, so that keys may be there twice for a while".into()),
        () if is(3) => Some("is for some rows only".into()),
        () if !is(4) => Some("is not a B-tree".into()),
        () if !is(8) => Some(format!("orders {column} otherwise than the column itself does")),
        () => None,
    }
}

/// The key that ranges are made by.
fn choose(indexes: Vec<Index>, choice: &KeyChoice, shown: &str) -> Result<Key, Trouble> {
    let advice = "it takes a primary key, or a unique index over columns that are NOT NULL";
    let described = |index: &Index| Some(format!("{} {}", index.name, index.unfit.as_ref()?));
    let Some(wanted) = &choice.columns else {
        let reasons: Vec<String> = indexes.iter().filter_map(described).collect();
        let found = indexes.into_iter().find(|index| index.unfit.is_none());
        return found.map(|index| index.key).ok_or_else(|| {
            let reasons = if reasons.is_empty() { "it has no unique index".to_owned() } else { reasons.join("; ") };
            refused(format!("{shown} has no key to make ranges by: {reasons}; {advice}"))
        });
    };
    let sorted = |columns: &[String]| {
        let mut sorted = columns.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let mut fitting: Vec<Index> = indexes.into_iter().filter(|index| sorted(&index.key.columns) == sorted(wanted)).collect();
    fitting.sort_by_key(|index| index.unfit.is_some());
    let wanted = wanted.join(", ");
    match fitting.into_iter().next() {
        Some(Index { key, unfit: None, .. }) => Ok(key),
        Some(index) => Err(refused(format!("--key {wanted}: {}; {advice}", described(&index).unwrap_or_default()))),
        None => Err(refused(format!("--key {wanted}: {shown} has no unique index on just these columns; {advice}"))),
    }
}

/// Why a relation cannot be read by key ranges, whatever indexes it has.
fn refusal(session: &mut Session, relation: &Relation, request: &Request) -> Result<Option<String>, Trouble> {
    let reason = match relation.kind {
        _ if request.order_by.is_some() => "ranges are read in the order of the key; leave --order-by out",
        _ if request.limit.is_some() => "--limit counts over the whole table",
        RelationKind::View | RelationKind::MaterializedView => "it is a view, and views have no key",
        RelationKind::Foreign => "it is a foreign table, and those have no key",
        RelationKind::Table if relation.has_children => {
            "other tables inherit from it, and its key says nothing of their rows; export them one by one"
        }
        _ if !catalog::may_read(session, std::slice::from_ref(relation))? => {
            "this role may read only some of its columns, and ranges need SELECT on the whole table for its lock"
        }
        _ => return Ok(None),
    };
    Ok(Some(reason.to_owned()))
}

impl Keys {
    /// Looks up how `relation` is read by key ranges: `list` is what is selected, `columns` are the names of its columns.
    pub fn of(
        session: &mut Session,
        relation: &mut Relation,
        request: &Request,
        choice: &KeyChoice,
        list: String,
        columns: &[String],
    ) -> Result<Keys, Trouble> {
        let shown = relation.shown();
        if let Some(reason) = refusal(session, relation, request)? {
            return Err(refused(format!("{shown} cannot be read by key ranges: {reason}")));
        }
        let key = choose(indexes(session, relation)?, choice, &shown)?;
        let mut pages = relation.pages;
        if relation.kind == RelationKind::Partitioned {
            let leaves = catalog::leaves(session, relation)?;
            pages = leaves.iter().map(|leaf| leaf.pages).sum();
            relation.bytes = leaves.iter().map(|leaf| leaf.bytes).sum();
            relation.estimated_rows = leaves.iter().map(|leaf| leaf.estimated_rows).sum();
        }
        let guard = Guard::of(session, relation, columns.iter().chain(&key.columns))?;
        let (filter, parts) = (request.filter.clone(), request.parts.max(1));
        Ok(Keys { relation: relation.clone(), key, pages, list, filter, parts, guard })
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Asks the server where ranges should begin.
    pub fn cut(&self, session: &mut Session) -> Result<KeyCut, Trouble> {
        let count = (self.relation.bytes / RANGE_BYTES).clamp(1, MOST_RANGES);
        let bounds = if count == 1 { Vec::new() } else { self.quantiles(session, count)? };
        Ok(KeyCut { parts: self.parts, key: self.key.clone(), bounds })
    }

    /// The keys that split the table into `count` ranges of about as many rows. The same table gives the same ones.
    fn quantiles(&self, session: &mut Session, count: u64) -> Result<Vec<Vec<String>>, Trouble> {
        let sampled = count * SAMPLED_PAGES;
        let sample = if self.pages <= WHOLE_PAGES || sampled >= self.pages {
            String::new()
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a part of the pages, about")]
            let percent = sampled as f64 * 100.0 / self.pages as f64;
            format!(" TABLESAMPLE SYSTEM ({percent}) REPEATABLE (0)")
        };
        let columns: Vec<String> = self.key.columns.iter().map(|column| self.column(column)).collect();
        let names: Vec<String> = (1..=columns.len()).map(|number| format!("k{number}")).collect();
        let picked: Vec<String> = columns.iter().zip(&names).map(|(column, name)| format!("{column} AS {name}")).collect();
        let sql = format!(
            "SELECT {names} FROM (SELECT {picked}, pg_catalog.row_number() OVER (ORDER BY {order}) - 1 AS place, count(*) OVER () AS total
             FROM {table}{sample}) s WHERE place > 0 AND place * {count} / total > (place - 1) * {count} / total ORDER BY place",
            names = names.join(", "),
            picked = picked.join(", "),
            order = columns.join(", "),
            table = self.table(),
        );
        let rows = session.ask(&sql, &format!("sample the keys of {}", self.relation.shown()))?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().collect()).collect())
    }

    fn table(&self) -> String {
        qualified(&self.relation.schema, &self.relation.name)
    }

    /// With the table's name before it, so that no name of an output column is meant.
    fn column(&self, name: &str) -> String {
        format!("{}.{}", self.table(), identifier(name))
    }

    /// The ranges between the bounds.
    pub fn ranges(&self, cut: &KeyCut) -> Vec<Range> {
        let count = cut.bounds.len() as u64 + 1;
        let parts = u64::from(cut.parts).min(count);
        let bound = |place: Option<usize>| place.and_then(|place| cut.bounds.get(place)).map(Vec::as_slice);
        let range = |number: u32| {
            let place = number as usize;
            let (from, to) = (bound(place.checked_sub(1)), bound(Some(place)));
            let part = u32::try_from(u64::from(number) * parts / count).unwrap_or(0);
            Range { number, part, sql: self.sql(from, to).into(), origin: self.origin(from, to).into() }
        };
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(range).collect()
    }

    /// Statements that read the rows of a range one behind the other, in order.
    fn sql(&self, from: Option<&[String]>, to: Option<&[String]>) -> String {
        let columns: Vec<String> = self.key.columns.iter().map(|column| self.column(column)).collect();
        let typed = |bound: &[String]| -> Vec<String> {
            bound.iter().zip(&self.key.types).map(|(text, kind)| format!("{}::{kind}", literal(text))).collect()
        };
        let (from, to) = (from.map(typed), to.map(typed));
        let statement = |mut conditions: Vec<String>| {
            conditions.extend(self.filter.as_ref().map(|filter| fragment(filter)));
            let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
            let (list, table, order) = (&self.list, self.table(), columns.join(", "));
            format!("COPY (SELECT {list} FROM {table}{condition} ORDER BY {order}) TO STDOUT")
        };
        pieces(&columns, from.as_deref(), to.as_deref()).into_iter().map(statement).collect::<Vec<_>>().join("; ")
    }

    /// `orders where 100 <= id < 200`.
    fn origin(&self, from: Option<&[String]>, to: Option<&[String]>) -> String {
        let mut text = self.relation.shown();
        if from.is_some() || to.is_some() {
            let _ = write!(text, " where {}", shown_range(&self.key, from, to));
        }
        text
    }
}

/// Takes a range of a key of several columns apart into pieces that an index can be read by: each has fixed values for the first columns
/// and a range for the next one. `(1, 5) <= (a, b) < (4, 2)` is `a = 1 AND b >= 5`, then `1 < a < 4`, then `a = 4 AND b < 2`.
///
/// As it stands the server would read such a range with its index up to the end of `a = 4`, however many rows that are.
fn pieces(columns: &[String], from: Option<&[String]>, to: Option<&[String]>) -> Vec<Vec<String>> {
    let last = columns.len() - 1;
    // Values of one text are equal; others may be so too, and are taken care of below.
    let shared = from.zip(to).map_or(0, |(from, to)| from.iter().zip(to).take_while(|(from, to)| from == to).count()).min(last);
    let equal = |bound: &[String], to: usize| -> Vec<String> {
        columns.iter().zip(bound).take(to).map(|(column, value)| format!("{column} = {value}")).collect()
    };
    let above = |from: &[String], place: usize| {
        let than = if place == last { ">=" } else { ">" };
        format!("{} {than} {}", columns[place], from[place])
    };
    let mut pieces = Vec::new();
    for place in (shared + 1..=last).rev() {
        let Some(from) = from else { continue };
        let mut piece = equal(from, place);
        piece.push(above(from, place));
        piece.extend(to.map(|to| format!("({}) < ({})", columns.join(", "), to.join(", "))));
        pieces.push(piece);
    }
    let mut middle = from.map_or(Vec::new(), |from| equal(from, shared));
    middle.extend(from.map(|from| above(from, shared)));
    middle.extend(to.map(|to| format!("{} < {}", columns[shared], to[shared])));
    pieces.push(middle);
    for place in shared + 1..=last {
        let Some(to) = to else { continue };
        let mut piece = equal(to, place);
        piece.push(format!("{} < {}", columns[place], to[place]));
        piece.extend(from.map(|from| format!("{} > {}", columns[shared], from[shared])));
        pieces.push(piece);
    }
    pieces
}

/// `100 <= id < 200`, as people write it.
fn shown_range(key: &Key, from: Option<&[String]>, to: Option<&[String]>) -> String {
    let listed = |words: &[String]| if let [word] = words { word.clone() } else { format!("({})", words.join(", ")) };
    let value = |text: &String| {
        let short: String = text.chars().take(SHOWN_CHARACTERS).collect();
        let short = short.replace(char::is_control, " ");
        if text.chars().nth(SHOWN_CHARACTERS).is_some() { short + "…" } else { short }
    };
    let bound = |values: &[String]| listed(&values.iter().map(value).collect::<Vec<_>>());
    let from = from.map_or(String::new(), |values| format!("{} <= ", bound(values)));
    let to = to.map_or(String::new(), |values| format!(" < {}", bound(values)));
    format!("{from}{}{to}", listed(&key.columns))
}

impl Guard {
    fn of<'a>(session: &mut Session, relation: &Relation, columns: impl Iterator<Item = &'a String>) -> Result<Guard, Trouble> {
        let table = qualified(&relation.schema, &relation.name);
        let names: Vec<String> = columns.map(|column| literal(column)).collect();
        // By its name: that is how the rows are read, and another table may have it by now.
        let question = format!(
            "SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid,
                a.attcollation), ',' ORDER BY a.attnum), 0)
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attname IN ({}) AND NOT a.attisdropped;",
            literal(&table),
            names.join(", ")
        );
        let shown = relation.shown();
        let answer = session.ask(&question, &format!("look up the columns of {shown}"))?;
        let shape = answer.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
        Ok(Guard { sql: format!("LOCK TABLE {table} IN ACCESS SHARE MODE;{question}"), shape, shown })
    }

    /// Whether the table that gave this answer is still what it was when the export was planned. What its rows mean depends on that.
    ///
    /// # Errors
    /// When it is another.
    pub fn holds(&self, answer: &Row) -> Result<(), Trouble> {
        if answer.first().and_then(Option::as_deref) == Some(self.shape.as_str()) {
            return Ok(());
        }
        let message = format!(
            "{} has been given other columns or types, or is another table by now: its rows would not fit to those before",
            self.shown
        );
        Err(refused(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: &[&str]) -> Key {
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        Key { types: vec!["text".into(); columns.len()], collations: vec![None; columns.len()], columns }
    }

    #[test]
    fn ranges_are_shown_as_people_write_them() {
        let bound = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let id = key(&["id"]);
        assert_eq!(shown_range(&id, None, Some(&bound(&["7"]))), "id < 7");
        assert_eq!(shown_range(&id, Some(&bound(&["7"])), Some(&bound(&["9"]))), "7 <= id < 9");
        assert_eq!(shown_range(&id, Some(&bound(&["9"])), None), "9 <= id");
        let pair = key(&["a", "b"]);
        assert_eq!(
            shown_range(&pair, Some(&bound(&["1", "x\ny"])), Some(&bound(&["2", &"z".repeat(60)]))),
            format!("(1, x y) <= (a, b) < (2, {}…)", "z".repeat(40))
        );
    }

    #[test]
    fn ranges_of_several_columns_are_taken_apart() {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let shown = |columns: &str, from: Option<&str>, to: Option<&str>| {
            let (from, to) = (from.map(words), to.map(words));
            let pieces = pieces(&words(columns), from.as_deref(), to.as_deref());
            pieces.iter().map(|piece| piece.join(" & ")).collect::<Vec<_>>()
        };
        assert_eq!(shown("a", None, None), [""]);
        assert_eq!(shown("a", Some("1"), Some("2")), ["a >= 1 & a < 2"]);
        assert_eq!(shown("a b", Some("1 5"), Some("1 9")), ["a = 1 & b >= 5 & b < 9"]);
        assert_eq!(shown("a b", None, Some("4 2")), ["a < 4", "a = 4 & b < 2"]);
        assert_eq!(shown("a b", Some("1 5"), None), ["a = 1 & b >= 5", "a > 1"]);
        let both = ["a = 1 & b >= 5 & (a, b) < (4, 2)", "a > 1 & a < 4", "a = 4 & b < 2 & a > 1"];
        assert_eq!(shown("a b", Some("1 5"), Some("4 2")), both);
        let three = ["a = 0 & b = 1 & c >= 5 & (a, b, c) < (0, 4, 2)", "a = 0 & b > 1 & b < 4", "a = 0 & b = 4 & c < 2 & b > 1"];
        assert_eq!(shown("a b c", Some("0 1 5"), Some("0 4 2")), three);
        assert_eq!(shown("a b c", Some("0 1 5"), None), ["a = 0 & b = 1 & c >= 5", "a = 0 & b > 1", "a > 0"]);
    }

    #[test]
    fn the_first_key_that_is_fit_is_taken() {
        let index = |name: &str, columns: &[&str], unfit: Option<&str>| Index {
            name: name.into(),
            key: key(columns),
            unfit: unfit.map(Into::into),
        };
        let indexes = || vec![index("a", &["a"], Some("is over an expression")), index("b", &["b"], None), index("c", &["c", "d"], None)];
        assert_eq!(choose(indexes(), &KeyChoice::default(), "t").unwrap().columns, ["b"]);
        let wanted = |columns: &[&str]| KeyChoice { columns: Some(columns.iter().map(ToString::to_string).collect()) };
        assert_eq!(choose(indexes(), &wanted(&["d", "c"]), "t").unwrap().columns, ["c", "d"]);
        assert!(choose(indexes(), &wanted(&["a"]), "t").unwrap_err().to_string().contains("a is over an expression"));
        assert!(choose(indexes(), &wanted(&["c"]), "t").unwrap_err().to_string().contains("no unique index on just these columns"));
        assert!(choose(Vec::new(), &KeyChoice::default(), "t").unwrap_err().to_string().contains("it has no unique index"));
    }
}
