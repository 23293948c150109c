//! Bytes that have been read and not been taken.

/// How much one read asks for at least.
const READ_BYTES: usize = 8 << 10;

/// Grows with what has arrived, never with what a length word promises.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room for the next read.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.resize((self.end + READ_BYTES).next_power_of_two(), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// The first `len` bytes of [`space`](Inbox::space) have been filled.
    pub(super) fn fill(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
    }

    /// The first `len` bytes, which are gone then.
    pub(super) fn consume(&mut self, len: usize) -> &[u8] {
        let from = self.start;
        self.start = (from + len).min(self.end);
        &self.bytes[from..self.start]
    }

    /// Moves as much as fits into `buf`; returns how much that is.
    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let len = buf.len().min(self.end - self.start);
        buf[..len].copy_from_slice(self.consume(len));
        len
    }

    /// In front of everything else.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        let mut all = bytes.to_vec();
        all.extend_from_slice(self.bytes());
        (self.start, self.end, self.bytes) = (0, all.len(), all);
    }
}
