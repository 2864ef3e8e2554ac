//! The plugins whose features are on.

use nvisy_core::Plugin;

#[cfg(feature = "ai")]
pub use nvisy_plugin_ai as ai;
#[cfg(feature = "object")]
pub use nvisy_plugin_object as object;
#[cfg(feature = "sql")]
pub use nvisy_plugin_sql as sql;
#[cfg(feature = "vector")]
pub use nvisy_plugin_vector as vector;

/// Returns every plugin whose feature is on.
#[must_use]
pub fn enabled() -> Vec<Plugin> {
    vec![
        #[cfg(feature = "ai")]
        ai::plugin(),
        #[cfg(feature = "object")]
        object::plugin(),
        #[cfg(feature = "sql")]
        sql::plugin(),
        #[cfg(feature = "vector")]
        vector::plugin(),
    ]
}
