//! A closure as a sink.

use super::{Delivery, Sink, SinkError, Written};
use crate::chunk::Payload;
use crate::trouble::Trouble;

/// A sink that calls `write` for each chunk, in order. A chunk counts as durable when the call has returned.
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
