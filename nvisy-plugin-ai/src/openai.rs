//! `ai/openai`: any service that speaks OpenAI's API.

mod address;
mod client;
mod config;
pub(crate) mod limits;
mod wire;

pub use self::config::{EncodingFormat, OpenAi};
