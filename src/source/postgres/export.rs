//! What is to be read, and how it is cut into ranges.

use super::catalog::{self, Column, Relation, RelationKind};
use super::keyset::{Guard, Key, KeyChoice, KeyCut, Keys};
use super::pages::{PageCut, Pages};
use super::pattern::NamePattern;
use super::session::{RowSecurity, Session};
use super::sql::{fragment, identifier, qualified, shown};
use super::types::{Form, Types};
use crate::format::copy_text::{Field, Kind, RowEncoder};
use crate::trouble::{Trouble, TroubleKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Page ranges can be read without visiting other pages from this version on.
const TID_RANGE_SCAN: u32 = 140_000;

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these columns, in this order.
    pub columns: Option<Vec<String>>,
    /// Only rows for which this SQL condition holds.
    pub filter: Option<String>,
    /// Only so many rows.
    pub limit: Option<u64>,
    /// In the order of these SQL expressions.
    pub order_by: Option<String>,
    /// Into how many outputs of their own, read side by side: [`Incoming::part`](crate::source::Incoming::part) says which. 0 and 1
    /// both mean one output with all rows in order.
    pub parts: u32,
    /// By ranges of a unique key, each at a moment of its own, instead of under one snapshot.
    pub key: Option<KeyChoice>,
}

/// Tables or a query.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Tables by name or pattern.
    Tables(Vec<NamePattern>),
    /// One query.
    Query(String),
}

/// How the rows of an export are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ReadMode {
    /// By page ranges, on any number of lanes.
    Pages,
    /// By ranges of a unique key, on any number of lanes, each range in a transaction of its own.
    Keyset {
        /// The key's columns.
        key: Vec<String>,
    },
    /// By one statement on one lane.
    OneLane {
        /// Why not by pages.
        reason: String,
    },
}

/// One table or query, ready to be read.
pub struct Export {
    /// What it is called: the table's name, or `query`.
    pub name: String,
    /// The table's schema, where there is one.
    pub schema: Option<String>,
    /// The columns' names, as they become keys.
    pub columns: Vec<String>,
    /// How the rows are reached.
    pub mode: ReadMode,
    /// Rows, as the planner guesses.
    pub estimated_rows: Option<u64>,
    /// Bytes of the table.
    pub bytes: u64,
    /// What is read at a time, in order.
    pub ranges: Arc<[Range]>,
    /// The first range of each output.
    pub part_starts: Vec<u32>,
    /// Everything that decides which rows come and what they look like, for comparing runs.
    pub identity: Value,
    /// How the rows are cut into ranges. None where they are read by one statement, and before it was decided.
    pub cut: Option<Cut>,
    pages: Option<Pages>,
    keys: Option<Keys>,
    kinds: Vec<Kind>,
}

/// What a lane reads at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which range, from 0.
    pub number: u32,
    /// Which output.
    pub part: u32,
    /// The statement that reads it.
    pub sql: Arc<str>,
    /// Where its rows come from, for people and the journal.
    pub origin: Arc<str>,
}

pub(super) fn refused(message: impl Into<String>) -> Trouble {
    Trouble::lasting(TroubleKind::Configuration, message)
}

impl Export {
    /// Looks up what a selection means, one export for each table.
    ///
    /// # Errors
    /// When something does not exist, may not be read, or is not SQL; passing trouble when a table was rewritten since the session's
    /// snapshot was taken, so that another session is needed.
    pub fn plan(session: &mut Session, selection: &Selection, request: &Request) -> Result<Vec<Export>, Trouble> {
        let mut exports = Export::outline(session, selection, request)?;
        exports.iter_mut().try_for_each(|export| export.cut_by_key(session))?;
        Ok(exports)
    }

    /// The same without a look into the tables: exports by key have no ranges yet. [`Export::cut_by_key`] makes them, or
    /// [`Export::cut_as`] takes those of an earlier run.
    ///
    /// # Errors
    /// As [`Export::plan`].
    pub fn outline(session: &mut Session, selection: &Selection, request: &Request) -> Result<Vec<Export>, Trouble> {
        match selection {
            Selection::Query(_) if request.key.is_some() => Err(refused("a query has no key to make ranges by; name a table")),
            Selection::Query(sql) => Ok(vec![Export::of_query(session, sql, request)?]),
            Selection::Tables(patterns) => {
                let relations = catalog::resolve(session, patterns)?;
                relations.into_iter().map(|relation| Export::of_table(session, relation, request)).collect()
            }
        }
    }

    /// One table, by its name as SQL has it: `orders`, `sales.orders`, `"Orders"`.
    ///
    /// # Errors
    /// When it does not exist, may not be read, or is a pattern that more than one table fits.
    pub fn table(session: &mut Session, name: &str, request: &Request) -> Result<Export, Trouble> {
        let mut export = Export::outline_table(session, name, request)?;
        export.cut_by_key(session)?;
        Ok(export)
    }

    /// The same without a look into the table, as [`Export::outline`].
    ///
    /// # Errors
    /// As [`Export::table`].
    pub fn outline_table(session: &mut Session, name: &str, request: &Request) -> Result<Export, Trouble> {
        let pattern = NamePattern::parse(name).map_err(|error| refused(error.to_string()))?;
        let mut found = Export::outline(session, &Selection::Tables(vec![pattern]), request)?;
        match found.pop() {
            Some(export) if found.is_empty() => Ok(export),
            _ => Err(refused(format!("`{name}` does not name one table"))),
        }
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// When it is no query, or reads what may not be read.
    pub fn query(session: &mut Session, sql: &str, request: &Request) -> Result<Export, Trouble> {
        Export::of_query(session, sql, request)
    }

    /// Encodes the rows as they come.
    pub fn encoder(&self) -> RowEncoder {
        RowEncoder::new(self.columns.iter().map(String::as_str).zip(self.kinds.iter().cloned()))
    }

    /// What the rows look like as they come: what it takes to read them without the server.
    pub fn fields(&self) -> Vec<Field> {
        let field = |(name, kind): (&String, &Kind)| Field { name: name.clone(), kind: kind.clone() };
        self.columns.iter().zip(&self.kinds).map(field).collect()
    }

    fn of_query(session: &mut Session, sql: &str, request: &Request) -> Result<Export, Trouble> {
        let sql = sql.trim().trim_end_matches(';');
        let described = session.describe(sql, "--query")?;
        let aliases = aliases(described.iter().map(|(name, _)| name.as_str()));
        let columns = described.into_iter().map(|(name, type_oid)| Column { name, type_oid, number: 0, is_readable: true }).collect();
        let from = format!("{} AS r({})", fragment(sql), aliases.join(","));
        // A query without columns takes no list of aliases.
        let from = if aliases.is_empty() { format!("{} AS r", fragment(sql)) } else { from };
        // Not everything that can be prepared can be read from.
        session.describe(&format!("SELECT FROM {from}"), "--query")?;
        let (columns, aliases) = select(columns, aliases, request, "the query")?;
        let forms = forms(session, &columns)?;
        let list = select_list(&aliases, &forms);
        let statement = Statement { list, from, request };
        statement.check(session)?;
        session.lock(&statement.select())?;
        let reason = "it is a query".to_owned();
        Ok(Export {
            name: "query".into(),
            schema: None,
            mode: ReadMode::OneLane { reason },
            estimated_rows: None,
            bytes: 0,
            ranges: Arc::new([statement.whole("query")]),
            part_starts: vec![0],
            cut: None,
            pages: None,
            keys: None,
            identity: json!({ "query": sql, "columns": names(&columns), "filter": request.filter, "limit": request.limit, "order_by": request.order_by }),
            columns: names(&columns),
            kinds: kinds(&forms),
        })
    }

    fn of_table(session: &mut Session, mut relation: Relation, request: &Request) -> Result<Export, Trouble> {
        let shown = relation.shown();
        if relation.is_filtered && session.row_security() == RowSecurity::Refuse {
            return Err(refused(format!(
                "a row-security policy of {shown} hides rows from role {}; use a role that bypasses it, or --row-security apply to export what it lets through",
                session.server().role
            )));
        }
        let all = catalog::columns(session, &relation)?;
        let quoted = all.iter().map(|column| identifier(&column.name)).collect();
        let (columns, quoted) = select(all, quoted, request, &shown)?;
        readable(session, &columns, &shown)?;
        let forms = forms(session, &columns)?;
        let list = select_list(&quoted, &forms);
        let statement = Statement { list, from: qualified(&relation.schema, &relation.name), request };
        if request.filter.is_some() || request.order_by.is_some() {
            statement.check(session)?;
        }
        if let Some(choice) = &request.key {
            let keys = Keys::of(session, &mut relation, request, choice, statement.list, &names(&columns))?;
            return Ok(Export::by_key(&relation, &columns, &forms, keys, request));
        }
        session.lock(&statement.select())?;
        let relation = &relation;
        let heaps = match heaps(session, relation, request)? {
            Ok(heaps) => heaps,
            Err(reason) => {
                let ranges: Arc<[Range]> = Arc::new([statement.whole(&shown)]);
                return Ok(Export::of_parts(relation, &columns, &forms, ReadMode::OneLane { reason }, ranges, vec![0], request));
            }
        };
        let cut = PageCut::new(&heaps, request.parts.max(1));
        let mut export = Export::of_parts(relation, &columns, &forms, ReadMode::Pages, Arc::new([]), Vec::new(), request);
        export.bytes = heaps.iter().map(|heap| heap.bytes).sum();
        export.estimated_rows = heaps.iter().map(|heap| heap.estimated_rows).sum();
        export.pages = Some(Pages { heaps, list: statement.list, filter: request.filter.clone() });
        export.cut_as(Cut::Pages(cut));
        Ok(export)
    }

    fn by_key(relation: &Relation, columns: &[Column], forms: &[Form], keys: Keys, request: &Request) -> Export {
        let mode = ReadMode::Keyset { key: keys.key().columns.clone() };
        // Until it is cut, as many outputs as were asked for.
        let parts = (0..request.parts.max(1)).collect();
        let mut export = Export::of_parts(relation, columns, forms, mode, Arc::new([]), parts, request);
        export.identity["key"] = json!(keys.key());
        // Rows are found by their key, in whatever file.
        export.identity["file_node"] = Value::Null;
        export.keys = Some(keys);
        export
    }

    /// Looks where the ranges of an export by key should begin, unless that is known already. Without effect on others.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn cut_by_key(&mut self, session: &mut Session) -> Result<(), Trouble> {
        let (Some(keys), None) = (&self.keys, &self.cut) else { return Ok(()) };
        let cut = keys.cut(session)?;
        self.cut_as(Cut::Keys(cut));
        Ok(())
    }

    /// Cuts into the ranges of `cut` instead: those of an earlier run, which must be of the same heaps or by the same key. Without effect
    /// on what is read by one statement.
    pub fn cut_as(&mut self, cut: Cut) {
        let (ranges, parts): (Vec<Range>, u32) = match (&cut, &self.pages, &self.keys) {
            (Cut::Pages(cut), Some(pages), _) => {
                ((0..).zip(&cut.ranges()).map(|(number, range)| pages.read(number, range)).collect(), cut.parts)
            }
            (Cut::Keys(cut), _, Some(keys)) => (keys.ranges(cut), cut.parts),
            _ => return,
        };
        self.part_starts = (0..parts).filter_map(|part| ranges.iter().position(|range| range.part == part)).map(index).collect();
        self.ranges = ranges.into();
        self.cut = Some(cut);
    }

    /// A statement for each range that answers: its number, its rows, and how many of the pages' row versions came `since` (an SQL
    /// condition on the system column `xmin`).
    pub(super) fn count_ranges(&self, since: &str) -> Vec<String> {
        let (Some(pages), Some(Cut::Pages(cut))) = (&self.pages, &self.cut) else { return Vec::new() };
        (0..).zip(&cut.ranges()).map(|(number, range)| pages.count(number, range, since)).collect()
    }

    fn of_parts(
        relation: &Relation,
        columns: &[Column],
        forms: &[Form],
        mode: ReadMode,
        ranges: Arc<[Range]>,
        part_starts: Vec<u32>,
        request: &Request,
    ) -> Export {
        Export {
            name: relation.name.clone(),
            schema: Some(relation.schema.clone()),
            columns: names(columns),
            mode,
            estimated_rows: relation
                .estimated_rows
                .filter(|_| request.filter.is_none())
                .map(|rows| rows.min(request.limit.unwrap_or(rows))),
            bytes: relation.bytes,
            ranges,
            part_starts,
            cut: None,
            pages: None,
            keys: None,
            identity: json!({
                "table": relation.shown(), "oid": relation.oid, "file_node": relation.file_node, "columns": names(columns),
                "numbers": columns.iter().map(|column| column.number).collect::<Vec<_>>(),
                "types": columns.iter().map(|column| column.type_oid).collect::<Vec<_>>(),
                "filter": request.filter, "limit": request.limit, "order_by": request.order_by,
            }),
            kinds: kinds(forms),
        }
    }

    /// What is exported, as a person would write it.
    pub fn shown(&self) -> String {
        self.schema.as_ref().map_or_else(|| self.name.clone(), |schema| shown(schema, &self.name))
    }

    /// Whether reading a range again under the same snapshot surely gives the same rows in the same order.
    pub fn repeats_exactly(&self) -> bool {
        self.mode == ReadMode::Pages
    }

    /// Whether every range is read at a moment of its own, under no snapshot that lasts.
    pub fn is_by_key(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether a run that was cut off can be gone on with: there are ranges to go on with.
    pub fn can_go_on(&self) -> bool {
        self.pages.is_some() || self.keys.is_some()
    }

    /// What has to hold in each range's own transaction.
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.keys.as_ref().map(Keys::guard)
    }
}

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}

fn kinds(forms: &[Form]) -> Vec<Kind> {
    let kind = |form: &Form| match form {
        Form::Plain(kind) => kind.clone(),
        Form::ToJson => Kind::Json,
    };
    forms.iter().map(kind).collect()
}

fn forms(session: &mut Session, columns: &[Column]) -> Result<Vec<Form>, Trouble> {
    let types = Types::load(session, columns.iter().map(|column| column.type_oid))?;
    Ok(columns.iter().map(|column| types.form(column.type_oid)).collect())
}

fn select_list(quoted: &[String], forms: &[Form]) -> String {
    let item = |(name, form): (&String, &Form)| match form {
        Form::Plain(_) => name.clone(),
        Form::ToJson => format!("pg_catalog.to_json({name})"),
    };
    quoted.iter().zip(forms).map(item).collect::<Vec<_>>().join(", ")
}

/// What a query's columns are called in the statement around it, where no two may be called the same: by their names, so that
/// conditions and orders can speak of them; by their number where several have one name.
fn aliases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let all: Vec<&str> = names.collect();
    let alone = |name: &str| all.iter().filter(|other| **other == name).count() == 1;
    let numbered = |number: usize| {
        let mut alias = format!("c{number}");
        while all.contains(&alias.as_str()) {
            alias.insert(0, '_');
        }
        alias
    };
    (1..).zip(&all).map(|(number, name)| identifier(&if alone(name) { (*name).to_owned() } else { numbered(number) })).collect()
}

/// The columns that are asked for, with what they are called in the statement.
fn select(all: Vec<Column>, quoted: Vec<String>, request: &Request, of: &str) -> Result<(Vec<Column>, Vec<String>), Trouble> {
    let Some(wanted) = &request.columns else { return Ok((all, quoted)) };
    let find = |name: &String| {
        let place = all.iter().position(|column| column.name == *name).ok_or_else(|| {
            let near = all.iter().map(|column| (strsim::jaro_winkler(name, &column.name), &column.name)).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = near.filter(|(likeness, _)| *likeness > 0.7).map_or(String::new(), |(_, near)| format!("; did you mean `{near}`?"));
            refused(format!("--columns: {of} has no column `{name}`{hint}"))
        })?;
        Ok((all[place].clone(), quoted[place].clone()))
    };
    Ok(wanted.iter().map(find).collect::<Result<Vec<_>, Trouble>>()?.into_iter().unzip())
}

fn readable(session: &Session, columns: &[Column], of: &str) -> Result<(), Trouble> {
    let hidden: Vec<&str> = columns.iter().filter(|column| !column.is_readable).map(|column| column.name.as_str()).collect();
    let role = &session.server().role;
    if hidden.is_empty() {
        return Ok(());
    }
    Err(refused(if hidden.len() == columns.len() {
        format!("role {role} has no SELECT privilege on {of}; GRANT it, or connect as another role")
    } else {
        format!("role {role} may not read the columns {} of {of}; name the others with --columns", hidden.join(", "))
    }))
}

/// The heaps whose pages hold the relation's rows, or why it has to be read as one.
fn heaps(session: &mut Session, relation: &Relation, request: &Request) -> Result<Result<Vec<Relation>, String>, Trouble> {
    let reason = match relation.kind {
        _ if request.order_by.is_some() => Some("--order-by needs all rows at once"),
        _ if request.limit.is_some() => Some("--limit counts over the whole table"),
        _ if session.server().version < TID_RANGE_SCAN => Some("the server cannot read page ranges before version 14"),
        _ if relation.is_filtered => Some("a row-security policy applies"),
        RelationKind::View => Some("it is a view"),
        RelationKind::Foreign => Some("it is a foreign table"),
        RelationKind::Table if relation.has_children => Some("other tables inherit from it"),
        RelationKind::Table | RelationKind::MaterializedView if !relation.is_heap => Some("its rows are not on heap pages"),
        _ => None,
    };
    if let Some(reason) = reason {
        return Ok(Err(reason.to_owned()));
    }
    if relation.kind != RelationKind::Partitioned {
        // Page numbers are a column too, and one that cannot be granted.
        let may = catalog::may_read(session, std::slice::from_ref(relation))?;
        return Ok(if may { Ok(vec![relation.clone()]) } else { Err("this role may read only some of its columns".to_owned()) });
    }
    let leaves = catalog::leaves(session, relation)?;
    let unfit = leaves.iter().find(|leaf| leaf.kind != RelationKind::Table || !leaf.is_heap || leaf.is_filtered);
    if let Some(leaf) = unfit {
        return Ok(Err(format!("its partition {} cannot be read by pages", leaf.shown())));
    }
    if !catalog::may_read(session, &leaves)? {
        return Ok(Err("this role may not read its partitions directly".to_owned()));
    }
    Ok(Ok(leaves))
}

/// A statement but for the pages.
struct Statement<'a> {
    list: String,
    from: String,
    request: &'a Request,
}

impl Statement<'_> {
    /// Looks at what a person wrote before anything is begun.
    ///
    /// A condition has to hold together without the parentheses that we put around it: `a) OR (b` would reach out of them, and past the
    /// pages of a range.
    fn check(&self, session: &mut Session) -> Result<(), Trouble> {
        if let Some(filter) = &self.request.filter {
            if filter.trim().is_empty() {
                return Err(refused("--where: the condition is empty"));
            }
            session.describe(&format!("SELECT FROM {} WHERE\n{filter}\n", self.from), "--where")?;
        }
        session.describe(&self.unordered(), "the columns")?;
        if self.request.order_by.is_some() {
            session.describe(&self.select(), "--order-by")?;
        }
        Ok(())
    }

    /// All rows by one query.
    fn select(&self) -> String {
        let order = self.request.order_by.as_ref().map_or(String::new(), |order| format!(" ORDER BY\n{order}\n"));
        let limit = self.request.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        format!("{}{order}{limit}", self.unordered())
    }

    fn unordered(&self) -> String {
        let Statement { list, from, request } = self;
        let filter = request.filter.as_ref().map_or(String::new(), |filter| format!(" WHERE {}", fragment(filter)));
        format!("SELECT {list} FROM {from}{filter}")
    }

    /// All rows as one range.
    fn whole(&self, shown: &str) -> Range {
        Range { number: 0, part: 0, sql: format!("COPY ({}) TO STDOUT", self.select()).into(), origin: shown.into() }
    }
}

/// How rows are cut into ranges. Journaled, and used again by who goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cut {
    /// By pages.
    Pages(PageCut),
    /// By keys.
    Keys(KeyCut),
}

impl Cut {
    /// Into how many outputs.
    pub fn parts(&self) -> u32 {
        match self {
            Cut::Pages(cut) => cut.parts,
            Cut::Keys(cut) => cut.parts,
        }
    }

    /// What its ranges are bounds of, if that is a key.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Cut::Pages(_) => None,
            Cut::Keys(cut) => Some(&cut.key),
        }
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
