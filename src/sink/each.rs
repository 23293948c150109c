//! A closure as a sink.

use super::{Delivery, Sink, SinkError, Written};
use crate::chunk::Payload;
use crate::trouble::Trouble;

/// A sink that calls `write` for each chunk, in order. A chunk counts as durable when the call has returned.
///
/// The closure says what it takes (`|chunk: &Delivery<Rows>| …`), which is how the payload's type gets known. Its errors are a
/// [`HandlerError`](crate::HandlerError), which is the chunk's, or a [`Trouble`], which is the sink's own and pauses the run.
pub fn each<P, F>(write: F) -> Each<F>
where
    F: FnMut(&Delivery<P>) -> Result<(), SinkError> + Send,
{
    Each { write }
}

/// See [`each`].
pub struct Each<F> {
    write: F,
}

impl<P: Payload, F> Sink<P> for Each<F>
where
    F: FnMut(&Delivery<P>) -> Result<(), SinkError> + Send,
{
    fn write(&mut self, delivery: &Delivery<P>) -> Result<Written, SinkError> {
        (self.write)(delivery).map(|()| Written { at: None, bytes: delivery.payload.bytes() as u64 })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}
