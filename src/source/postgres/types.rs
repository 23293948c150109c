//! Which JSON a type becomes: `json_categorize_type` of the server (`src/backend/utils/adt/json.c`, `jsonfuncs.c`), from the catalog.

use super::session::{Row, Session};
use super::sql::oid_array;
use crate::format::copy_text::Kind;
use crate::trouble::Trouble;
use std::collections::{BTreeSet, HashMap};

/// Types with a higher id are users' and extensions'; only their casts to `json` count (`FirstNormalObjectId`).
const FIRST_NORMAL_OBJECT_ID: u32 = 16_384;

mod oid {
    pub const BOOL: u32 = 16;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT2_VECTOR: u32 = 22;
    pub const INT4: u32 = 23;
    pub const OID_VECTOR: u32 = 30;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const RECORD: u32 = 2249;
    pub const ANY_ARRAY: u32 = 2277;
    pub const RECORD_ARRAY: u32 = 2287;
    pub const JSONB: u32 = 3802;
}

/// How a column is selected, and what its text then is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain(Kind),
    /// Wrapped in `to_json`, by the server.
    ToJson,
}

/// What the catalog knows of the types that an export meets.
pub(super) struct Types {
    known: HashMap<u32, TypeFacts>,
}

struct TypeFacts {
    /// `typtype`: base, composite, domain, enum, pseudo, range, multirange.
    class: u8,
    /// Of a domain.
    base: u32,
    /// Of a true array.
    element: Option<u32>,
    delimiter: u8,
    /// Has a function that casts it to `json`.
    casts_to_json: bool,
}

impl Types {
    /// Asks the catalog for these types and all that they are made of.
    pub fn load(session: &mut Session, wanted: impl IntoIterator<Item = u32>) -> Result<Types, Trouble> {
        let mut types = Types { known: HashMap::new() };
        let mut missing: BTreeSet<u32> = wanted.into_iter().collect();
        while !missing.is_empty() {
            let rows = session.ask(&query(&missing, session.server().version), "look up types")?;
            types.known.extend(rows.iter().map(facts));
            // A type that is gone since would be asked for again and again.
            for oid in std::mem::take(&mut missing) {
                types.known.entry(oid).or_insert(TypeFacts { class: b'b', base: 0, element: None, delimiter: b',', casts_to_json: false });
            }
            let parts = types.known.values().flat_map(|facts| facts.element.into_iter().chain((facts.class == b'd').then_some(facts.base)));
            missing = parts.filter(|part| !types.known.contains_key(part)).collect();
        }
        Ok(types)
    }

    /// How a column of this type is selected.
    pub fn form(&self, oid: u32) -> Form {
        self.kind(oid).map_or(Form::ToJson, Form::Plain)
    }

    /// What its text is; `None` where only the server can make JSON of it.
    fn kind(&self, oid: u32) -> Option<Kind> {
        let facts = &self.known[&oid];
        Some(match oid {
            _ if facts.class == b'd' => return self.kind(facts.base),
            oid::BOOL => Kind::Bool,
            oid::INT2 | oid::INT4 | oid::INT8 => Kind::Integer,
            oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC => Kind::Number,
            oid::TIMESTAMP => Kind::Timestamp,
            oid::TIMESTAMPTZ => Kind::TimestampTz,
            oid::JSON | oid::JSONB => Kind::Json,
            oid::INT2_VECTOR | oid::OID_VECTOR => Kind::Vector(Box::new(self.kind(facts.element?)?)),
            oid::RECORD | oid::ANY_ARRAY | oid::RECORD_ARRAY => return None,
            _ if facts.class == b'c' || (oid >= FIRST_NORMAL_OBJECT_ID && facts.casts_to_json) => return None,
            _ => match facts.element {
                // The delimiter between elements is a matter of the element's type.
                Some(element) => Kind::Array { element: Box::new(self.kind(element)?), delimiter: self.known[&element].delimiter },
                None => Kind::Text,
            },
        })
    }
}

fn query(wanted: &BTreeSet<u32>, version: u32) -> String {
    // `IsTrueArrayType`; before version 14 there was no subscript handler to tell by.
    let true_array =
        if version >= 140_000 { "t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc" } else { "t.typlen = -1" };
    format!(
        "SELECT t.oid, t.typtype, t.typbasetype, CASE WHEN t.typelem <> 0 AND {true_array} THEN t.typelem END, t.typdelim,
            EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castsource = t.oid AND c.casttarget = {} AND c.castmethod = 'f')
         FROM pg_catalog.pg_type t WHERE t.oid = ANY ({})",
        oid::JSON,
        oid_array(wanted.iter().copied())
    )
}

fn facts(row: &Row) -> (u32, TypeFacts) {
    let number = |column: usize| row[column].as_deref().and_then(|text| text.parse().ok());
    let letter = |column: usize| row[column].as_deref().and_then(|text| text.bytes().next()).unwrap_or(b',');
    let facts = TypeFacts {
        class: letter(1),
        base: number(2).unwrap_or(0),
        element: number(3),
        delimiter: letter(4),
        casts_to_json: row[5].as_deref() == Some("t"),
    };
    (number(0).unwrap_or(0), facts)
}
