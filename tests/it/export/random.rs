//! Random values of random kinds against the server.
