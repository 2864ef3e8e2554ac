//! What a stranger's graph may not reach for: files of this machine, private addresses, secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nvisy_core::SecretRef;
use nvisy_core::connection::{Reach, is_public};

use super::diagnostic::{Diagnostic, code};
use super::json::{join_path, shown};

/// Returns what is wrong with something that a connection of a stranger's graph reaches for.
pub(super) fn refuse(reach: &Reach, connection: &str, prefix: &str) -> Option<Diagnostic> {
    match reach {
        Reach::Files { setting } => {
            let message = format!(
                "connection \"{connection}\" reaches for files of this machine, which a stranger's graph may not"
            );
            let help = "use a remote store, or run the graph as a trusted one";
            Some(Diagnostic::new(code::REACH_FILES, join_path(prefix, setting), message).with_help(help))
        }
        Reach::Network { setting, host } => {
            let why = private(host)?;
            let host = shown(host);
            let message = format!(
                "connection \"{connection}\" reaches for \"{host}\", which is {why}: a stranger's graph may not"
            );
            let help = "use a public address, or run the graph as a trusted one";
            Some(Diagnostic::new(code::REACH_NETWORK, join_path(prefix, setting), message).with_help(help))
        }
    }
}

/// Returns what is wrong with the directory where a graph keeps its state.
pub(super) fn refuse_state(directory: &str, untrusted: bool) -> Option<Diagnostic> {
    let path = "settings.checkpoint.directory";
    if untrusted {
        let message = "the graph keeps its state in a directory of this machine, which a stranger's may not";
        let help = "leave it out: the host says where state is kept, with `EngineBuilder::state`";
        return Some(Diagnostic::new(code::REACH_FILES, path, message).with_help(help));
    }
    let help = "name one, such as \"state\", or leave it out";
    directory.is_empty().then(|| {
        Diagnostic::new(code::POLICY_INVALID, path, "the name of the directory is empty").with_help(help)
    })
}

/// Says that a connection of a stranger's graph names a secret where there are none.
pub(super) fn refuse_secret(secret: &SecretRef, connection: &str, path: String) -> Diagnostic {
    let secret = shown(secret.name());
    let message = format!(
        "connection \"{connection}\" names the secret \"{secret}\", and a stranger's graph is given none"
    );
    let help = "the host says which secrets there are: `Engine::builder().untrusted().secrets(..)`";
    Diagnostic::new(code::REACH_SECRET, path, message).with_help(help)
}

/// Returns what kind of private address a host is, however it is written; none if it is public.
///
/// A name that only its resolution shows to be private is refused when the connection is made.
fn private(host: &str) -> Option<&'static str> {
    let host = host.trim().trim_start_matches('[');
    let host = host.split([']', '%']).next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() {
        return Some("no address");
    }
    // Other scripts have digits and dots that clients read as these; public names have an ASCII form.
    if !host.is_ascii() {
        return Some("not written in ASCII");
    }
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return not_public(address.into());
    }
    if let Some(address) = loose_v4(&host) {
        return not_public(address.into());
    }
    let local = ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain", "arpa"];
    let last = host.rsplit('.').next().unwrap_or_default();
    match host.contains('.') {
        false => Some("a name of the local network"),
        true if local.contains(&last) => Some("a name of the local network"),
        true => None,
    }
}

/// Reads an IPv4 address as lenient clients do: one to four numbers, each decimal, octal or hexadecimal.
fn loose_v4(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(part, 8).ok(),
        None if part.bytes().all(|b| b.is_ascii_digit()) => part.parse().ok(),
        None => None,
    };
    let parts: Vec<u64> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, front) = parts.split_last()?;
    if front.len() > 3 || front.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 8 * (4 - front.len() as u32);
    if *last >= 1 << room {
        return None;
    }
    let high = front.iter().zip([24, 16, 8]).map(|(part, shift)| (*part as u32) << shift).sum::<u32>();
    Some(Ipv4Addr::from(high | *last as u32))
}

/// Returns what kind of address it is that is not public.
fn not_public(address: IpAddr) -> Option<&'static str> {
    if is_public(address) {
        return None;
    }
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    Some(match address {
        _ if link_local => "a link-local address",
        _ if address.is_loopback() || address.is_unspecified() => "this machine",
        _ => "no public address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, refused: bool) {
        assert_eq!(private(host).is_some(), refused, "{host}: {:?}", private(host));
    }

    #[test]
    fn private_addresses_are_found_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "100.64.0.1",
            "[::1]",
            "::1",
            "[::ffff:127.0.0.1]",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1%eth0",
            "[fe80::1%25eth0]",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "3fff::1",
            "[4000::1]",
            "2001:db8::1",
            "100::1",
            "localhost",
            "LOCALHOST.",
            "db.internal",
            "metadata.google.internal",
            "x.localhost",
            "printer.local",
            "database",
            "１２７.0.0.1",
            "127.0.0.1.",
            "",
            "255.255.255.255",
        ] {
            check(host, true);
        }
    }

    #[test]
    fn public_addresses_are_welcome() {
        for host in [
            "example.com",
            "8.8.8.8",
            "172.32.0.1",
            "2606:4700::1111",
            "api.openai.com.",
            "100.128.0.1",
            "1.2.3.4.5.example",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn an_address_that_is_none_is_a_name() {
        assert_eq!(loose_v4("256.1.1.1"), None);
        assert_eq!(loose_v4("1.2.3.4.5"), None);
        assert_eq!(loose_v4("4294967296"), None);
        assert_eq!(loose_v4("08.1"), None);
    }
}
