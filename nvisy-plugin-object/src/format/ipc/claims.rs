//! What compressed buffers claim of their size, checked before memory is taken for it.

use std::io::{self, Read, Seek, SeekFrom};

use arrow::ipc::{CompressionType, Message, root_as_footer, root_as_message};

/// How large a buffer may become: what 32-bit offsets can speak of.
const MAX_BUFFER: u64 = 1 << 31;
/// How many times a codec makes a buffer smaller at the most.
const LZ4_RATIO: u64 = 1 << 8;
const ZSTD_RATIO: u64 = 1 << 16;
/// What stands before the length of a message in all but the oldest objects.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Checks the buffers of every message of a file or a stream.
///
/// A decoder takes as much memory as a buffer says that it needs before it looks into it: a few
/// bytes could end the process. What is no message ends the check without an error: the decoder
/// says what is wrong with it.
///
/// # Errors
///
/// `InvalidData` if a buffer claims to hold more than it can.
pub(super) fn check(content: &mut (impl Read + Seek), is_file: bool) -> io::Result<()> {
    if is_file { check_file(content) } else { check_stream(content) }
}

/// Checks the messages that the footer names.
fn check_file(content: &mut (impl Read + Seek)) -> io::Result<()> {
    let end = content.seek(SeekFrom::End(0))?;
    let Some(tail) = end.checked_sub(10) else { return Ok(()) };
    content.seek(SeekFrom::Start(tail))?;
    let Some(length) = length(content)? else { return Ok(()) };
    let Some(start) = tail.checked_sub(length) else { return Ok(()) };
    content.seek(SeekFrom::Start(start))?;
    let footer = read(content, length)?;
    let Ok(footer) = root_as_footer(&footer) else { return Ok(()) };
    for block in [footer.dictionaries(), footer.recordBatches()].into_iter().flatten().flatten() {
        let (Ok(offset), Ok(metadata)) =
            (u64::try_from(block.offset()), u64::try_from(block.metaDataLength()))
        else {
            continue;
        };
        content.seek(SeekFrom::Start(offset))?;
        let Some(length) = message_length(content)? else { continue };
        let message = read(content, length)?;
        if let Ok(message) = root_as_message(&message) {
            check_message(content, &message, offset.saturating_add(metadata))?;
        }
    }
    Ok(())
}

/// Checks the messages that follow each other.
fn check_stream(content: &mut (impl Read + Seek)) -> io::Result<()> {
    content.seek(SeekFrom::Start(0))?;
    while let Some(length) = message_length(content)? {
        let message = read(content, length)?;
        let Ok(message) = root_as_message(&message) else { break };
        let body = content.stream_position()?;
        check_message(content, &message, body)?;
        let Ok(size) = u64::try_from(message.bodyLength()) else { break };
        content.seek(SeekFrom::Start(body.saturating_add(size)))?;
    }
    Ok(())
}

/// Checks the buffers of a message whose body begins at `body`.
fn check_message(content: &mut (impl Read + Seek), message: &Message<'_>, body: u64) -> io::Result<()> {
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
    let (Some(compression), Some(buffers)) = (batch.compression(), batch.buffers()) else { return Ok(()) };
    let ratio = if compression.codec() == CompressionType::LZ4_FRAME { LZ4_RATIO } else { ZSTD_RATIO };
    for buffer in buffers {
        let (Ok(offset), Ok(length)) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()))
        else {
            continue;
        };
        // One that is empty says nothing.
        if length < 8 {
            continue;
        }
        content.seek(SeekFrom::Start(body.saturating_add(offset)))?;
        let claim = read(content, 8)?;
        // Minus one says that it is not compressed.
        let claim = claim.try_into().map_or(0, i64::from_le_bytes);
        let most = length.saturating_mul(ratio).min(MAX_BUFFER);
        if u64::try_from(claim).is_ok_and(|claim| claim > most) {
            let message = format!("a buffer of {length} bytes claims to hold {claim}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(())
}

/// Reads how long the next message is; none at the end.
fn message_length(content: &mut impl Read) -> io::Result<Option<u64>> {
    let first = read(content, 4)?;
    let length = if first == CONTINUATION { length(content)? } else { length(&mut &first[..])? };
    Ok(length.filter(|length| *length > 0))
}

fn length(content: &mut impl Read) -> io::Result<Option<u64>> {
    let bytes: Result<[u8; 4], _> = read(content, 4)?.try_into();
    Ok(bytes.ok().and_then(|bytes| u64::try_from(i32::from_le_bytes(bytes)).ok()))
}

/// Reads so many bytes, or what is left.
fn read(content: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
