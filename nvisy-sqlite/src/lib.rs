//! SQLite files for the plugins of Nvisy Runtime: what a connection to one is, whatever it holds.
//!
//! | type | what it is |
//! |---|---|
//! | [`File`] | the settings: what graphs say of a file |
//! | [`Content`] | what a plugin says of its files, and the client that it makes of an open one |
//! | [`Database`] | an open file: one connection that writes, several that read |
//! | [`Reader`] | one of those that read, as long as somebody waits for what it reads |
//! | [`translate`] | what SQLite says, as the library's error |
//!
//! What is asked of a file is the plugin's business: its client holds a [`Database`], and speaks to it
//! through `sqlx`. The features of the driver are chosen here.

mod database;
mod error;
mod file;
mod reader;

pub use self::database::Database;
pub use self::error::{is_about_the_item, translate, translate_commit};
pub use self::file::{Content, File};
pub use self::reader::Reader;
