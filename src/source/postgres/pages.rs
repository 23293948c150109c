//! Ranges of pages, and what is read of them.

use super::catalog::Relation;
use super::export::Range;
use super::sql::{fragment, qualified};
use serde::{Deserialize, Serialize};

/// Pages of a range, if the rows are all on them: 2 MiB at the usual page size. Much smaller, and starting a query for each shows;
/// much larger, and lanes that run ahead hold more than the budget.
const RANGE_PAGES: u64 = 256;

/// How heaps are cut into page ranges. Bounds are fixed when a target is begun, the last one of each heap is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCut {
    /// Into how many outputs.
    pub parts: u32,
    /// The heaps, in order.
    pub heaps: Vec<HeapCut>,
}

/// How one heap is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapCut {
    /// The table's object id.
    pub oid: u32,
    /// The file that holds it: another after a rewrite.
    pub file_node: Option<u32>,
    /// Pages that it had.
    pub pages: u64,
    /// Pages of a range.
    pub step: u64,
}

/// Pages of one heap, from `first` up to before `end`.
pub(super) struct PageRange {
    heap: usize,
    first: u64,
    /// None for the heap's end.
    end: Option<u64>,
    part: u32,
}

impl PageCut {
    /// Cuts heaps into ranges whose size depends on the heap alone, so that more lanes do not change what is written.
    pub(super) fn new(heaps: &[Relation], parts: u32) -> PageCut {
        let cut = |heap: &Relation| HeapCut { oid: heap.oid, file_node: heap.file_node, pages: heap.pages, step: pages_of_range(heap) };
        PageCut { parts, heaps: heaps.iter().map(cut).collect() }
    }

    pub(super) fn ranges(&self) -> Vec<PageRange> {
        let mut ranges: Vec<PageRange> = Vec::new();
        for (heap, HeapCut { pages, step, .. }) in self.heaps.iter().enumerate() {
            // A heap without pages may have had its first one since: the snapshot sees nothing there, and so do we.
            let starts = (0..(*pages).max(1)).step_by(usize::try_from((*step).max(1)).unwrap_or(usize::MAX));
            ranges.extend(starts.map(|first| PageRange { heap, first, end: (first + step < *pages).then_some(first + step), part: 0 }));
        }
        let count = ranges.len() as u64;
        let parts = u64::from(self.parts).min(count);
        for (index, range) in (0..).zip(&mut ranges) {
            range.part = u32::try_from(index * parts / count).unwrap_or(0);
        }
        ranges
    }
}

/// What is read of pages.
pub(super) struct Pages {
    pub heaps: Vec<Relation>,
    pub list: String,
    pub filter: Option<String>,
}

impl Pages {
    fn from(&self, PageRange { heap, first, end, .. }: &PageRange) -> String {
        let until = end.map_or(String::new(), |end| format!(" AND ctid < '({end},0)'"));
        let Relation { schema, name, .. } = &self.heaps[*heap];
        format!("FROM ONLY {} WHERE ctid >= '({first},0)'{until}", qualified(schema, name))
    }

    pub fn read(&self, number: u32, range: &PageRange) -> Range {
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!(" AND {}", fragment(filter)));
        let sql = format!("COPY (SELECT {} {}{filter}) TO STDOUT", self.list, self.from(range)).into();
        let last = range.end.map_or("end".to_owned(), |end| (end - 1).to_string());
        let origin = format!("{} pages {}-{last}", self.heaps[range.heap].shown(), range.first).into();
        Range { number, part: range.part, sql, origin }
    }

    pub fn count(&self, number: u32, range: &PageRange, since: &str) -> String {
        let filter = self.filter.as_ref().map_or("true".to_owned(), |filter| fragment(filter));
        format!("SELECT {number}, count(*) FILTER (WHERE {filter}), count(*) FILTER (WHERE {since}) {}", self.from(range))
    }
}

/// Fewer pages where much of the data is out of line.
fn pages_of_range(relation: &Relation) -> u64 {
    (RANGE_PAGES * relation.heap_bytes / relation.bytes.max(1)).clamp(1, RANGE_PAGES)
}
