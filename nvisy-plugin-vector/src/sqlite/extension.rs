//! Registers sqlite-vec with the SQLite that the driver brings: the one place with unsafe code.

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use libsqlite3_sys::{SQLITE_OK, sqlite3, sqlite3_api_routines, sqlite3_auto_extension};
use nvisy_core::{Error, Result};

/// The shape of an extension's entry point. See <https://www.sqlite.org/loadext.html>.
type EntryPoint = unsafe extern "C" fn(*mut sqlite3, *mut *mut c_char, *const sqlite3_api_routines) -> c_int;

/// Registers the extension for every connection that is opened from now on. Once a process.
///
/// # Errors
///
/// `internal` if SQLite has no memory for it.
pub(crate) fn register() -> Result<()> {
    static CODE: OnceLock<c_int> = OnceLock::new();
    let code = *CODE.get_or_init(|| {
        // SAFETY: `sqlite3_vec_init` is the entry point of an extension: the crate declares it
        // without its arguments, the C source with those of `EntryPoint`. It is linked
        // statically against the same SQLite, so it lives as long as the process.
        unsafe {
            let entry =
                std::mem::transmute::<*const (), EntryPoint>(sqlite_vec::sqlite3_vec_init as *const ());
            sqlite3_auto_extension(Some(entry))
        }
    });
    if code == SQLITE_OK {
        return Ok(());
    }
    Err(Error::internal(format!("sqlite-vec cannot be registered with SQLite (code {code})")))
}
