//! `ai/local`: embedding by feature hashing, without a network.

use nvisy_core::connection::{ConnectContext, Connection, Reach};
use nvisy_core::context::Context;
use nvisy_core::error::Result;
use nvisy_core::observability::ModelUsage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embed::scale_to_one;
use crate::error;
use crate::model::{EmbedRequest, Embedder, ModelClient};

/// Models that run here: no network, no account, no files.
///
/// There is one, `local/hash`, and it is named for what it is: words and pairs of neighbouring
/// words, hashed into the dimensions of a vector (default 512) with a sign each, the weight of
/// a repeated one growing with the logarithm of its count, the whole scaled to length one. It
/// finds texts that share words with the question. It knows nothing of meaning, and does not
/// stand in for a model that does: it is for examples, tests and baselines.
///
/// The vectors of a text are the same on every machine and in every release.
///
/// Feature hashing: Weinberger et al., *Feature Hashing for Large Scale Multitask Learning*,
/// ICML 2009.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_ai::{Embed, Local, ModelClient};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> nvisy_core::Result<()> {
/// let client = ModelClient::from(Local::new());
/// let embed = Embed::model(Local::HASH).dimensions(256);
/// let vectors = embed.vectors(&client, &["a red fish", "one red fish", "a blue bird"]).await?;
/// let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
/// assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {}

impl Local {
    /// The model's name.
    pub const HASH: &'static str = "local/hash";

    /// The models that run here.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl From<Local> for ModelClient {
    fn from(_: Local) -> Self {
        Self::new(HashEmbedder)
    }
}

impl Connection for Local {
    const NAME: &'static str = "ai/local";
    type Client = ModelClient;

    fn reach(&self) -> Vec<Reach> {
        Vec::new()
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn connect(&self, _: &ConnectContext) -> Result<ModelClient> {
        Ok(self.clone().into())
    }

    async fn verify(&self, _: &ModelClient) -> Result<()> {
        Ok(())
    }
}

const DIMENSIONS: u32 = 512;
/// A pair of words says more than either, and is seldom met: it weighs half.
const PAIR: f32 = 0.5;

struct HashEmbedder;

impl Embedder for HashEmbedder {
    async fn embed(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        if request.model != Local::HASH {
            return Err(error::no_such_local_model(request.model));
        }
        let dimensions = request.dimensions.unwrap_or(DIMENSIONS) as usize;
        let mut features = Vec::new();
        let vectors = request.texts.iter().map(|text| embed(text, dimensions, &mut features)).collect();
        context.meter().model_usage(&ModelUsage {
            model: Local::HASH.into(),
            requests: 1,
            ..ModelUsage::default()
        });
        Ok(vectors)
    }
}

/// Embeds a text. `features` is working space.
fn embed(text: &str, dimensions: usize, features: &mut Vec<u64>) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    let (mut words, mut pairs) = (std::mem::take(features), Vec::new());
    words.clear();
    hash_words(text, &mut words);
    if words.is_empty() {
        // Nothing but signs: then they are what it says.
        words.push(fnv(text.trim().as_bytes()));
    }
    pairs.extend(words.windows(2).map(|pair| mix(pair[0].rotate_left(17) ^ pair[1])));
    add(&mut vector, &mut words, 1.0);
    add(&mut vector, &mut pairs, PAIR);
    *features = words;
    scale_to_one(&mut vector);
    if vector.iter().all(|x| *x == 0.0) {
        // Features can cancel out; a vector of zeros has no direction.
        vector[0] = 1.0;
    }
    vector
}

/// Adds features to a vector: the upper bits choose the dimension, the lowest the sign.
fn add(vector: &mut [f32], features: &mut [u64], weight: f32) {
    features.sort_unstable();
    for same in features.chunk_by(|a, b| a == b) {
        let hash = mix(same[0]);
        let dimension = ((u128::from(hash) * vector.len() as u128) >> 64) as usize;
        let sign = if hash & 1 == 0 { weight } else { -weight };
        vector[dimension] += sign * log_count(same.len());
    }
}

/// Returns `1 + ln(count)`, from additions and multiplications alone, so that every machine
/// agrees to the last bit.
fn log_count(count: usize) -> f32 {
    use std::f32::consts::LN_2;
    let power = count.ilog2();
    // ln(1 + x) within one power of two, to three digits.
    let x = count as f32 / (1_u64 << power) as f32 - 1.0;
    1.0 + power as f32 * LN_2 + x * (1.0 - x * (0.5 - x * (0.287 - x * 0.094)))
}

/// Hashes the words of a text, in lower case: runs of letters and digits; where a script has
/// no spaces, single characters. Accents that stand apart from their letter are left out.
fn hash_words(text: &str, words: &mut Vec<u64>) {
    let mut word = Fnv::new();
    for char in text.chars() {
        if char.is_ascii_alphanumeric() {
            word.byte(char.to_ascii_lowercase() as u8);
        } else if char.is_ascii() || !char.is_alphanumeric() {
            if !matches!(char, '\u{300}'..='\u{36f}') {
                word.end(words);
            }
        } else if is_word_alone(char) {
            word.end(words);
            word.char(char);
            word.end(words);
        } else {
            char.to_lowercase().for_each(|char| word.char(char));
        }
    }
    word.end(words);
}

/// Ideographs, kana, and the scripts of South-East Asia that are written without spaces.
fn is_word_alone(char: char) -> bool {
    matches!(char, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// FNV-1a, 64 bits, and whether there is anything in it.
struct Fnv {
    hash: u64,
    empty: bool,
}

impl Fnv {
    fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, empty: true }
    }

    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.empty = false;
    }

    fn char(&mut self, char: char) {
        char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| self.byte(byte));
    }

    fn end(&mut self, words: &mut Vec<u64>) {
        if !self.empty {
            words.push(self.hash);
            *self = Self::new();
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    let mut fnv = Fnv::new();
    bytes.iter().for_each(|byte| fnv.byte(*byte));
    fnv.hash
}

/// Spreads a hash over all its bits (SplitMix64).
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<f32> {
        embed(text, 64, &mut Vec::new())
    }

    #[test]
    fn a_vector_has_length_one_whatever_the_text() {
        for text in
            ["a", "!!!", "漢字かな", "e\u{301}", &"word ".repeat(10_000), "\u{1f468}\u{200d}\u{1f469}"]
        {
            let length: f32 = check(text).iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{text:?}: {length}");
        }
    }

    #[test]
    fn case_and_punctuation_make_no_difference() {
        assert_eq!(check("Hello, WORLD!"), check("hello world"));
        assert_eq!(check("CAFÉ"), check("café"));
    }

    #[test]
    fn order_makes_one() {
        assert_ne!(check("dog bites man"), check("man bites dog"));
    }

    #[test]
    fn the_logarithm_is_close() {
        for count in [1, 2, 3, 5, 7, 100, 1_000_000] {
            let exact = 1.0 + (count as f32).ln();
            assert!((log_count(count) - exact).abs() < 0.005, "{count}: {} {exact}", log_count(count));
        }
    }

    #[test]
    fn vectors_never_change() {
        // Golden: a change here makes every stored vector worthless.
        let vector = check("the quick brown fox");
        let bits: Vec<_> =
            vector.iter().enumerate().filter(|(_, x)| **x != 0.0).map(|(i, x)| (i, x.to_bits())).collect();
        assert_eq!(bits, GOLDEN);
    }

    const GOLDEN: &[(usize, u32)] = &[
        (3, 3_192_197_539),
        (4, 1_053_102_499),
        (7, 1_044_713_891),
        (23, 1_061_491_107),
        (36, 3_200_586_147),
        (51, 3_192_197_539),
    ];
}
