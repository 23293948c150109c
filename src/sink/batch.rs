//! What sinks need to know of the built-in payload.

use super::{ToBytes, ToRows};
use crate::batch::{Batch, Content};

impl ToBytes for Batch {
    fn to_bytes(&self) -> Option<&[u8]> {
        match self.content() {
            Content::Frames(_) | Content::Rows(_) => None,
            Content::Encoded { buffer, .. } => Some(buffer.bytes()),
        }
    }
}

impl ToRows for Batch {
    fn form_as_read(&self) -> &'static str {
        self.came()
    }

    fn form(&self) -> &'static str {
        Batch::form(self)
    }

    fn rows_raw(&self, each: &mut dyn FnMut(&[u8])) {
        self.each_row(each);
    }
}
