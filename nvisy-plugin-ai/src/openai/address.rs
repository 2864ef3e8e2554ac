//! Names that a graph from a stranger may not reach.

use std::net::SocketAddr;

use nvisy_core::connection::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::AddressRefused;

/// Looks names up, and refuses those that lead to an address which is not public.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            // One is enough to refuse: the next look-up could choose it.
            if let Some(address) = addresses.iter().map(SocketAddr::ip).find(|ip| !is_public(*ip)) {
                return Err(AddressRefused { host: host.to_owned(), address }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused() {
        let error = PublicOnly.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.downcast_ref::<AddressRefused>().is_some(), "{error}");
    }
}
