//! Keys that services repeat.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// From so many bytes on, a stretch of a key is hidden.
const STRETCH: usize = 8;

/// Hides every stretch of a text that is also in the key, from eight bytes on: services repeat
/// keys in full or in part, as they are or as they stand in URLs, in JSON, in hexadecimal or Base64.
pub(super) fn scrub(text: &str, key: &str) -> String {
    let text = text.as_bytes();
    let mut hidden = vec![false; text.len()];
    for spelling in spellings(key.trim()) {
        let window = spelling.len().min(STRETCH);
        if window == 0 {
            continue;
        }
        let stretches: HashSet<&[u8]> = spelling.windows(window).collect();
        for (at, stretch) in text.windows(window).enumerate() {
            if stretches.contains(stretch) {
                hidden[at..at + window].fill(true);
            }
        }
    }
    let mut clean = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        if !hidden[at] {
            clean.push(*byte);
        } else if at == 0 || !hidden[at - 1] {
            clean.extend_from_slice(b"***");
        }
    }
    String::from_utf8_lossy(&clean).into_owned()
}

/// The ways to write a key; of one that is shorter than a stretch, none but its own.
fn spellings(key: &str) -> Vec<Vec<u8>> {
    let mut all = vec![key.as_bytes().to_vec()];
    if key.len() < STRETCH {
        return all;
    }
    let percent = |unreserved: fn(u8) -> bool, upper: bool| {
        let byte = |byte: u8| match byte {
            _ if unreserved(byte) => char::from(byte).to_string(),
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        key.bytes().map(byte).collect::<String>().into_bytes()
    };
    // RFC 3986, section 2.3, and those that encode more.
    let uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    for upper in [true, false] {
        all.extend([percent(uri, upper), percent(|byte| byte.is_ascii_alphanumeric(), upper)]);
        let hex = |byte: u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        all.push(key.bytes().map(hex).collect::<String>().into_bytes());
    }
    let json = serde_json::Value::from(key).to_string();
    all.push(json.trim_matches('"').as_bytes().to_vec());
    // Three bytes are four signs: what stands before the key, such as `Bearer `, shifts them.
    for before in 0..3 {
        let shifted = [&vec![0; before], key.as_bytes()].concat();
        for code in [STANDARD, URL_SAFE] {
            let written = code.encode(&shifted);
            // The first sign that is all of the key's, and those behind it up to the last.
            let (begins, ends) = ((8 * before).div_ceil(6), 8 * shifted.len() / 6);
            all.push(written.as_bytes()[begins..ends].to_vec());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-canary/0123+456=789";

    #[test]
    fn a_key_is_hidden_in_full_and_in_part() {
        for said in [KEY, "sk-canary/0123", "…y/0123+456=789", "\u{1f511}sk-canary/0123+456=789\u{1f511}"] {
            let clean = scrub(said, KEY);
            assert!(!clean.contains("canary") && clean.contains("***"), "{clean}");
        }
        assert_eq!(scrub("nothing here", KEY), "nothing here");
        assert_eq!(scrub("a short abc key", "abc"), "a short *** key");
        assert_eq!(scrub("no key", " "), "no key");
    }

    #[test]
    fn a_key_is_hidden_however_it_is_written() {
        let percent = "sk-canary%2F0123%2B456%3D789";
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        for said in
            [percent, &percent.to_lowercase(), &percent.replace('-', "%2D"), &hex, &hex.to_uppercase()]
        {
            assert_eq!(scrub(said, KEY), "***", "{said}");
        }
        assert_eq!(scrub("\"sk-can\\\"ary-0123\"", "sk-can\"ary-0123"), "\"***\"");
        for before in ["", "k", ":k", "Bearer ", "user:"] {
            for code in [STANDARD, URL_SAFE] {
                let clean = scrub(&code.encode(format!("{before}{KEY}, and more")), KEY);
                let prefix = code.encode(before);
                let known = prefix.trim_end_matches('=').len();
                let shown = clean.split("***").next().unwrap_or_default().len();
                assert!(clean.contains("***") && shown <= known, "{clean}");
            }
        }
    }
}
