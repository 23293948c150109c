//! The growing end of an encoded chunk.

/// Bytes being encoded: a buffer whose initialised part runs ahead of what has been written, so that an encoder can store
/// whole words past its position and let the slice's own bounds check be the check for room.
///
/// An encoder works on [`Output::spare`] and calls [`Output::commit`] when a row is complete. When it runs out of room it
/// gives up on that row, the caller calls [`Output::grow`], and the row starts again: growing is rare, because buffers are
/// used again, and the hot loop carries no capacity logic at all.
#[derive(Default)]
pub struct Output {
    buffer: Vec<u8>,
    written: usize,
}

impl Output {
    /// Takes over `buffer`, whose length is the room there is at first; what it holds is overwritten.
    pub fn reusing(buffer: Vec<u8>) -> Output {
        Output { buffer, written: 0 }
    }

    /// What has been written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.written]
    }

    /// How many bytes have been written so far.
    pub fn len(&self) -> usize {
        self.written
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Room behind what has been written.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.buffer[self.written..]
    }

    /// Keeps the first `count` bytes of [`Output::spare`].
    pub(crate) fn commit(&mut self, count: usize) {
        debug_assert!(self.written + count <= self.buffer.len());
        self.written += count;
    }

    /// Makes room for at least `expected` more bytes, and for a quarter more than there was in any case.
    ///
    /// A quarter and not the double, because new room is zeroed and so becomes resident memory at once.
    #[cold]
    pub(crate) fn grow(&mut self, expected: usize) {
        let room = (self.buffer.len() + self.buffer.len() / 4).max(self.written + expected).max(4096);
        self.buffer.reserve_exact(room - self.buffer.len());
        self.buffer.resize(room, 0);
    }

    /// The buffer and how much of it was written.
    pub fn into_parts(self) -> (Vec<u8>, usize) {
        (self.buffer, self.written)
    }
}
