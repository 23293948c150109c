//! The one integration test binary: everything that needs a real server, the real program, or both.

mod commands;
mod connect;
mod diagram;
mod dlq;
mod docs;
mod engine;
mod export;
mod fsm;
mod fuzz;
mod journal;
mod pipeline;
mod security;
mod support;
mod tidy;
