//! Versions of objects: what tells whether one has changed since it was read.
//!
//! A version is the size and the time of the last change, in nanoseconds: `SIZE-TIME`. That time is
//! no proof while it is fresh. File systems count it in ticks, and a change within the tick of
//! the one before it shows in neither, if the size stays. So the version of an object that was
//! changed less than [`FRESH`] before it was listed has the hash of its content too,
//! `SIZE-TIME-HASH`, and a later run compares that, whatever the time says. So has that of one
//! whose time is not behind 1970, as archives may leave it.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nvisy_core::{ContentHash, OpenContext, Partition, Result};

use crate::client::{Entry, ObjectClient};
use crate::error::from_join;
use crate::task::blocking;

/// For how long the time of a change proves nothing: the coarsest tick of a file system, FAT's.
const FRESH: Duration = Duration::from_secs(2);
/// How much is hashed at once.
const BLOCK: u64 = 1 << 20;

/// What an object was like when it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version<'a> {
    size: u64,
    modified: i128,
    hash: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let (size, modified) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { size, modified, hash: parts.next() })
    }
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.size, self.modified)?;
        self.hash.map_or(Ok(()), |hash| write!(f, "-{hash}"))
    }
}

/// Returns a time in nanoseconds since 1970, as versions have it; zero before that.
pub(crate) fn nanos(time: SystemTime) -> i128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

/// Says in which version each object is that was listed at `listed` or later.
pub(crate) async fn partitions(
    context: &OpenContext<ObjectClient>,
    entries: Vec<Entry>,
    listed: SystemTime,
) -> Result<Vec<Partition>> {
    let client = context.client().clone();
    let settled = nanos(listed) - FRESH.as_nanos() as i128;
    let partitions = blocking(move || {
        let versioned = entries.into_iter().map(|Entry { key, size, modified }| {
            let version = |hash: Option<&str>| Version { size, modified, hash }.to_string();
            // A time before 1970, or none, proves nothing ever.
            let version = match 0 < modified && modified < settled {
                true => Some(version(None)),
                // What cannot be read here fails where it is read.
                false => hash(&client, &key).ok().map(|hash| version(Some(&hash))),
            };
            let partition = Partition::new(key);
            version.map_or(partition.clone(), |version| partition.with_version(version))
        });
        versioned.collect()
    });
    partitions.await.map_err(|error| from_join(error, "list", "."))
}

/// Returns which objects hold what they held in the version beside them.
pub(crate) async fn unchanged(
    context: &OpenContext<ObjectClient>,
    partitions: &[(Partition, Arc<str>)],
) -> Result<Vec<bool>> {
    let (client, partitions) = (context.client().clone(), partitions.to_vec());
    let same = blocking(move || {
        let same = partitions.iter().map(|(partition, known)| {
            let now = partition.version.as_deref().and_then(Version::read);
            let (Some(now), Some(known)) = (now, Version::read(known)) else { return false };
            let Some(hash_then) = known.hash.filter(|_| known.size == now.size) else { return false };
            match now.hash {
                Some(hash) => hash == hash_then,
                None => hash(&client, &partition.id).is_ok_and(|hash| hash == hash_then),
            }
        });
        same.collect()
    });
    same.await.map_err(|error| from_join(error, "read", "."))
}

/// Hashes the content of an object, block by block. Blocks.
fn hash(client: &ObjectClient, key: &str) -> Result<String, io::Error> {
    let mut content = client.content(key).map_err(io::Error::other)?;
    let mut block = Vec::new();
    let mut last = ContentHash::of_bytes(&[]);
    loop {
        block.clear();
        block.extend_from_slice(last.as_bytes());
        if content.by_ref().take(BLOCK).read_to_end(&mut block)? == 0 {
            return Ok(last.to_string()[..32].to_owned());
        }
        last = ContentHash::of_bytes(&block);
    }
}

/// Writes how a source of objects tells what has changed.
macro_rules! versions {
    () => {
        fn increments(&self) -> nvisy_core::Result<nvisy_core::Increments, &'static str> {
            Ok(nvisy_core::Increments::Versions)
        }

        async fn unchanged(
            &self,
            partitions: &[(Partition, std::sync::Arc<str>)],
            context: &OpenContext<ObjectClient>,
        ) -> Result<Vec<bool>> {
            $crate::version::unchanged(context, partitions).await
        }
    };
}

pub(crate) use versions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_back() {
        for text in ["12-1700000000000000001", "0-0", "7-5-ab12"] {
            assert_eq!(Version::read(text).unwrap().to_string(), text);
        }
        assert_eq!(Version::read("etag"), None);
    }
}
