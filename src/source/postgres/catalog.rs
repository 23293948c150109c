//! Which tables a name means, and what is to be known of them before they are read.

use super::pattern::NamePattern;
use super::session::{Row, Session};
use super::sql::{literal, oid_array, shown};
use crate::trouble::{Trouble, TroubleKind};
use serde::Serialize;

/// What kind of relation, as `pg_class.relkind` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view.
    View,
    /// A materialised view.
    MaterializedView,
    /// A table on another server.
    Foreign,
}

/// A table, or what can be read like one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What kind.
    pub kind: RelationKind,
    /// Whether its rows are on pages of a heap of its own.
    pub is_heap: bool,
    /// Whether tables inherit from it (not partitions).
    pub has_children: bool,
    /// Whether a row-security policy applies to this role.
    pub is_filtered: bool,
    /// Pages of the heap now. No row of the snapshot is on a later page.
    pub pages: u64,
    /// Bytes of those pages.
    pub heap_bytes: u64,
    /// Bytes of heap and out-of-line values.
    pub bytes: u64,
    /// Rows, as the planner guesses; none if the table was never analysed.
    pub estimated_rows: Option<u64>,
    /// The file that holds the heap: another after a rewrite.
    pub file_node: Option<u32>,
}

/// A column that can be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's object id.
    pub type_oid: u32,
    /// Its number in the table, which a column of the same name added later does not share. 0 in a query.
    pub number: u32,
    /// Whether the role may read it.
    pub is_readable: bool,
}

const RELATION: &str = "c.oid, n.nspname, c.relname, c.relkind, coalesce(am.amname = 'heap', false), c.relhassubclass,
    pg_catalog.row_security_active(c.oid),
    CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END,
    CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_table_size(c.oid) ELSE 0 END,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END, pg_catalog.pg_relation_filenode(c.oid)";

const FROM: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam";

const READABLE_KINDS: &str = "c.relkind IN ('r', 'p', 'v', 'm', 'f')";

impl Relation {
    /// Its name as a person would write it.
    pub fn shown(&self) -> String {
        shown(&self.schema, &self.name)
    }

    fn read(row: &Row, block_bytes: u64) -> Relation {
        let text = |column: usize| row[column].clone().unwrap_or_default();
        let number = |column: usize| row[column].as_deref().and_then(|text| text.parse::<u64>().ok());
        let truth = |column: usize| row[column].as_deref() == Some("t");
        let object = |column: usize| number(column).and_then(|oid| u32::try_from(oid).ok());
        Relation {
            oid: object(0).unwrap_or(0),
            schema: text(1),
            name: text(2),
            kind: match text(3).as_str() {
                "p" => RelationKind::Partitioned,
                "v" => RelationKind::View,
                "m" => RelationKind::MaterializedView,
                "f" => RelationKind::Foreign,
                _ => RelationKind::Table,
            },
            is_heap: truth(4),
            has_children: truth(5),
            is_filtered: truth(6),
            pages: number(7).unwrap_or(0) / block_bytes,
            heap_bytes: number(7).unwrap_or(0),
            bytes: number(8).unwrap_or(0),
            estimated_rows: number(9),
            file_node: object(10),
        }
    }
}

/// All relations that the patterns mean, in the order of the patterns and by name within one; none twice.
pub(super) fn resolve(session: &mut Session, patterns: &[NamePattern]) -> Result<Vec<Relation>, Trouble> {
    let mut found: Vec<Relation> = Vec::new();
    for pattern in patterns {
        let matched = matching(session, pattern)?;
        if matched.is_empty() {
            return Err(unknown(session, pattern)?);
        }
        found.extend(matched.into_iter().filter(|relation| found.iter().all(|other| other.oid != relation.oid)).collect::<Vec<_>>());
    }
    Ok(found)
}

fn matching(session: &mut Session, pattern: &NamePattern) -> Result<Vec<Relation>, Trouble> {
    if let Some(database) = pattern.database.as_ref().filter(|database| **database != session.server().database) {
        let message = format!("`{}` is in the database {database}, and the connection is to {}", pattern.text, session.server().database);
        return Err(Trouble::lasting(TroubleKind::Configuration, message));
    }
    let matches = |column: &str, regex: &str| format!("{column} OPERATOR(pg_catalog.~) {} COLLATE pg_catalog.\"default\"", literal(regex));
    let place = match &pattern.schema {
        Some(schema) => matches("n.nspname", schema),
        None if pattern.is_wild => {
            "pg_catalog.pg_table_is_visible(c.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')".to_owned()
        }
        None => "pg_catalog.pg_table_is_visible(c.oid)".to_owned(),
    };
    // A pattern that takes in a partitioned table takes its partitions' rows in already.
    let not_twice = if pattern.is_wild { "AND NOT c.relispartition" } else { "" };
    let name = matches("c.relname", &pattern.name);
    let sql = format!("SELECT {RELATION} {FROM} WHERE {READABLE_KINDS} AND {name} AND {place} {not_twice} ORDER BY n.nspname, c.relname");
    relations(session, &sql, &format!("look up `{}`", pattern.text))
}

fn relations(session: &mut Session, sql: &str, doing: &str) -> Result<Vec<Relation>, Trouble> {
    let block_bytes = session.server().block_bytes;
    Ok(session.ask(sql, doing)?.iter().map(|row| Relation::read(row, block_bytes)).collect())
}

/// No such table: which ones come near?
fn unknown(session: &mut Session, pattern: &NamePattern) -> Result<Trouble, Trouble> {
    let sql = format!(
        "SELECT n.nspname, c.relname {FROM} WHERE {READABLE_KINDS} AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         AND n.nspname !~ '^pg_toast' LIMIT 10000"
    );
    let rows = session.ask(&sql, "list tables")?;
    let names = rows.iter().filter_map(|row| Some(shown(row[0].as_deref()?, row[1].as_deref()?)));
    let wanted = pattern.text.to_lowercase();
    let mut near: Vec<(f64, String)> = names.map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name)).collect();
    near.retain(|(likeness, _)| *likeness > 0.8);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<String> = near.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    let server = session.server();
    let mut message = format!("no table matches `{}` in database {} (as role {})", pattern.text, server.database, server.role);
    if !names.is_empty() {
        message.push_str(&format!("; did you mean {}?", names.join(" or ")));
    }
    Ok(Trouble::lasting(TroubleKind::Configuration, message))
}

/// The columns of a relation, in order, without those that were dropped.
pub(super) fn columns(session: &mut Session, relation: &Relation) -> Result<Vec<Column>, Trouble> {
    let sql = format!(
        "SELECT a.attname, a.atttypid, pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), a.attnum
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        relation.oid
    );
    let rows = session.ask(&sql, &format!("look up the columns of {}", relation.shown()))?;
    let column = |row: &Row| Column {
        name: row[0].clone().unwrap_or_default(),
        type_oid: row[1].as_deref().and_then(|oid| oid.parse().ok()).unwrap_or(0),
        is_readable: row[2].as_deref() == Some("t"),
        number: row[3].as_deref().and_then(|number| number.parse().ok()).unwrap_or(0),
    };
    Ok(rows.iter().map(column).collect())
}

/// The leaves of a partitioned table, oldest first.
pub(super) fn leaves(session: &mut Session, relation: &Relation) -> Result<Vec<Relation>, Trouble> {
    let sql = format!(
        "SELECT {RELATION} {FROM} WHERE c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree({}) WHERE isleaf) ORDER BY c.oid",
        relation.oid
    );
    relations(session, &sql, &format!("look up the partitions of {}", relation.shown()))
}

/// Whether the role may read these relations directly.
pub(super) fn may_read(session: &mut Session, relations: &[Relation]) -> Result<bool, Trouble> {
    let sql = format!(
        "SELECT coalesce(pg_catalog.bool_and(pg_catalog.has_table_privilege(oid, 'SELECT')), true) FROM pg_catalog.unnest({}) oid",
        oid_array(relations.iter().map(|relation| relation.oid))
    );
    Ok(session.ask(&sql, "look up privileges")?.first().is_some_and(|row| row[0].as_deref() == Some("t")))
}
