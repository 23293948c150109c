//! The context of an instance: a fixed set of slots, one per key that its machine ever reads or writes.

use std::sync::Arc;

use indexmap::IndexSet;
use serde_json::{Map, Value};

use super::value::{Sum, View, add};

/// A key of the context, resolved once.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(super) u16);

/// What the contexts of one machine have in common.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub keys: IndexSet<String>,
    /// Values that the definition spells out. Storing one stores its number.
    pub literals: Vec<Value>,
}

/// 16 bytes. Only what came with an event and is neither a number nor a short text owns memory: error kinds are short, and
/// a failing chunk should not wait for the allocator.
#[derive(Clone, Debug, Default)]
pub(super) enum Cell {
    #[default]
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Literal(u32),
    Short {
        length: u8,
        bytes: [u8; SHORT],
    },
    Owned(Box<Value>),
}

/// Bytes of the longest text that a cell holds itself.
const SHORT: usize = 14;
const _: () = assert!(size_of::<Cell>() == 16);

/// The values that guards read and `fsm.assign` writes. Numbers are doubles, as in JavaScript.
#[derive(Clone, Debug)]
pub struct Context {
    cells: Box<[Cell]>,
    layout: Arc<Layout>,
}

impl Context {
    /// `cells` has one cell per key of `layout`.
    pub(super) fn new(layout: Arc<Layout>, cells: &[Cell]) -> Context {
        Context { cells: cells.into(), layout }
    }

    /// The number in `slot`; `None` when it holds something else.
    pub fn number(&self, slot: Slot) -> Option<f64> {
        match self.view(slot) {
            View::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The text in `slot`; `None` when it holds something else.
    pub fn text(&self, slot: Slot) -> Option<&str> {
        match self.view(slot) {
            View::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value in `slot`, copied; `None` when the key is not there.
    pub fn get(&self, slot: Slot) -> Option<Value> {
        self.view(slot).to_value()
    }

    /// Stores a number.
    pub fn set_number(&mut self, slot: Slot, value: f64) {
        self.put(slot, Cell::Number(value));
    }

    /// Stores any JSON.
    pub fn set(&mut self, slot: Slot, value: &Value) {
        self.put(slot, Cell::copy(View::of(value)));
    }

    /// Takes the key away, which is not the same as storing `null`.
    pub fn remove(&mut self, slot: Slot) {
        self.put(slot, Cell::Undefined);
    }

    /// The whole context; keys that are not there are left out.
    pub fn to_json(&self) -> Map<String, Value> {
        let slots = (0..).map(Slot);
        let entries = self.layout.keys.iter().zip(slots);
        entries.filter_map(|(key, slot)| Some((key.clone(), self.get(slot)?))).collect()
    }

    #[inline]
    pub(super) fn view(&self, slot: Slot) -> View<'_> {
        match &self.cells[usize::from(slot.0)] {
            Cell::Number(value) => View::Number(*value),
            Cell::Literal(literal) => View::of(&self.layout.literals[*literal as usize]),
            Cell::Undefined => View::Undefined,
            Cell::Null => View::Null,
            Cell::Bool(value) => View::Bool(*value),
            Cell::Short { length, bytes } => View::Text(str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()),
            Cell::Owned(value) => View::of(value),
        }
    }

    #[inline]
    pub(super) fn put(&mut self, slot: Slot, cell: Cell) {
        self.cells[usize::from(slot.0)] = cell;
    }

    /// `context[slot] = (context[slot] ?? 0) + by`
    #[inline]
    pub(super) fn increment(&mut self, slot: Slot, by: f64) {
        let cell = &mut self.cells[usize::from(slot.0)];
        if let Cell::Number(value) = cell {
            *value += by;
        } else {
            let sum = self.sum(slot, by);
            self.put(slot, sum);
        }
    }

    /// What [`Context::increment`] would store.
    pub(super) fn sum(&self, slot: Slot, by: f64) -> Cell {
        match add(self.view(slot), by) {
            Sum::Number(value) => Cell::Number(value),
            Sum::Text(text) => Cell::copy(View::Text(&text)),
        }
    }
}

impl Cell {
    /// A copy of a value that stands elsewhere.
    pub fn copy(view: View<'_>) -> Cell {
        match view {
            View::Undefined => Cell::Undefined,
            View::Null => Cell::Null,
            View::Bool(value) => Cell::Bool(value),
            View::Number(value) => Cell::Number(value),
            View::Text(text) if text.len() <= SHORT => short(text),
            View::Text(text) => Cell::Owned(Box::new(text.into())),
            View::Json(value) => Cell::Owned(Box::new(value.clone())),
        }
    }
}

fn short(text: &str) -> Cell {
    let mut bytes = [0; SHORT];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    // No longer than SHORT, so the length fits.
    Cell::Short { length: u8::try_from(text.len()).unwrap_or_default(), bytes }
}
