//! Finding embeddings: by vector, by full text, or by both.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use nvisy_core::lineage::Record;
use nvisy_core::{PrimitiveId, Result, RunId};
use serde::Serialize;
use serde_json::Value;

use crate::filter::Filter;
use crate::point::StoredPoint;
use crate::sqlite::SqliteClient;

/// How many hits a search gives unless told otherwise.
const DEFAULT_K: usize = 10;
/// How many words of a question are looked for.
const MAX_TERMS: usize = 64;
/// The constant of reciprocal rank fusion: Cormack, Clarke and Büttcher (2009).
const RRF: f64 = 60.0;

/// A question to a collection.
///
/// # Examples
///
/// ```
/// use nvisy_core::prelude::*;
/// use nvisy_plugin_vector::{Filter, Search, Sqlite};
///
/// # async fn ask() -> Result<()> {
/// let index = Sqlite::at("index.db").connect(&ConnectContext::detached()).await?;
/// let search = Search::by_text("how does ownership work?").k(5).filter(Filter::eq("language", "en"));
/// for hit in search.run(&index, "docs").await? {
///     println!("{:.3} {}", hit.score, hit.source_uri.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) text: Option<String>,
    pub(crate) k: usize,
    pub(crate) filter: Option<Filter>,
}

impl Search {
    /// Looks for the nearest vectors, exactly: every one is compared.
    #[must_use]
    pub fn by_vector(vector: impl Into<Vec<f32>>) -> Self {
        Self { vector: Some(vector.into()), text: None, k: DEFAULT_K, filter: None }
    }

    /// Looks for texts with the words of a question, ranked by BM25. There is no query
    /// language: whatever is asked is taken for words.
    #[must_use]
    pub fn by_text(text: impl Into<String>) -> Self {
        Self { vector: None, text: Some(text.into()), k: DEFAULT_K, filter: None }
    }

    /// Looks by vector and by text, and fuses both rankings by reciprocal rank.
    #[must_use]
    pub fn hybrid(vector: impl Into<Vec<f32>>, text: impl Into<String>) -> Self {
        Self { vector: Some(vector.into()), text: Some(text.into()), k: DEFAULT_K, filter: None }
    }

    /// Sets how many hits there are at the most. Default 10.
    #[must_use]
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Looks only among the embeddings that a filter holds for.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Asks a collection. The best hit comes first.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no such collection; `validation` if the vector has other
    /// dimensions or the filter makes no sense.
    pub async fn run(&self, client: &SqliteClient, collection: &str) -> Result<Vec<Hit>> {
        client.search(collection, self).await
    }
}

/// An embedding that was found, with what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: PrimitiveId,
    /// How well it fits, the more the better: by vector the cosine, the inner product or the
    /// negative distance; by text BM25; by both the sum of reciprocal ranks.
    pub score: f64,
    /// Its text.
    pub text: Option<String>,
    /// The title of its document.
    pub title: Option<String>,
    /// Where its document was found.
    pub source_uri: Option<String>,
    /// Which bytes of the source it is.
    pub byte_range: Option<Range<u64>>,
    /// Which part of its parent it is.
    pub chunk: Option<u64>,
    /// What else is known about its document.
    pub attributes: BTreeMap<String, Value>,
    /// The tags of its envelope.
    pub tags: BTreeMap<String, String>,
    /// The model that made its vector.
    pub model: String,
    /// The run that wrote it.
    pub run: Option<RunId>,
    /// The id of the source item that it derives from.
    pub root: Option<PrimitiveId>,
    /// Every step from the source item to the embedding.
    pub lineage: Vec<Record>,
}

impl Hit {
    pub(crate) fn new(score: f64, point: StoredPoint) -> Self {
        let document = point.document.unwrap_or_default();
        Self {
            id: point.id,
            score,
            text: Some(document.text).filter(|text| !text.is_empty()),
            title: document.title,
            source_uri: document.source_uri,
            byte_range: document.byte_range,
            chunk: document.chunk,
            attributes: document.attributes,
            tags: point.said.tags,
            model: point.model,
            run: point.run,
            root: point.origin.root,
            lineage: point.origin.lineage,
        }
    }
}

/// Fuses rankings: what stands high in several comes first. Ties go by key.
pub(crate) fn fuse(rankings: &[Vec<i64>], k: usize) -> Vec<(i64, f64)> {
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for ranking in rankings {
        for (rank, key) in (1_u32..).zip(ranking) {
            *scores.entry(*key).or_default() += 1.0 / (RRF + f64::from(rank));
        }
    }
    let mut fused: Vec<(i64, f64)> = scores.into_iter().collect();
    fused.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    fused.truncate(k);
    fused
}

/// Splits a question into what is looked for: its words but for those that say nothing, and
/// what is written as one (`unwrap_or_else`) as a phrase of its words. Lowercase, each once.
pub(crate) fn terms(question: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |term: String| {
        if !all.contains(&term) && all.len() < MAX_TERMS {
            all.push(term);
        }
    };
    for written in question.split_whitespace() {
        let words: Vec<String> = written
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        // An apostrophe makes no phrase: "doesn't" is looked for by what is left of it.
        if words.len() > 1 && !written.contains(['\'', '’']) {
            add(words.join(" "));
        }
        words.into_iter().for_each(&mut add);
    }
    if all.iter().any(|term| !is_stop_word(term)) {
        all.retain(|term| !is_stop_word(term));
    }
    all
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// English words that say nothing about what is asked, sorted.
const STOP_WORDS: &[&str] = &[
    "a", "about", "am", "an", "and", "any", "are", "as", "at", "be", "been", "being", "but", "by", "can",
    "could", "did", "do", "does", "doing", "don", "for", "from", "had", "has", "have", "having", "he", "her",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "ll", "me", "my", "of", "on", "or", "our", "s",
    "shall", "she", "should", "so", "such", "t", "than", "that", "the", "their", "them", "then", "there",
    "these", "they", "this", "those", "to", "us", "ve", "was", "we", "were", "what", "when", "where",
    "which", "who", "whom", "why", "will", "with", "would", "you", "your",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn a_question_becomes_its_telling_words() {
        assert_eq!(terms("How does the borrow checker work?"), ["borrow", "checker", "work"]);
        assert_eq!(terms("What's `unwrap_or_else`?"), ["unwrap or else", "unwrap", "else"]);
        assert_eq!(terms("to be or not to be"), ["not"]);
        assert_eq!(terms("who am I"), ["who", "am", "i"]);
        assert_eq!(terms("NEAR(\"a\" b) AND x* -y^2"), ["near a", "near", "b", "x", "y 2", "y", "2"]);
        assert_eq!(terms("  \0 ??! "), Vec::<String>::new());
        assert_eq!(terms("Größe Größe"), ["größe"]);
    }

    #[test]
    fn fusion_prefers_what_both_rankings_have() {
        let fused = fuse(&[vec![1, 2, 3], vec![4, 2, 5]], 3);
        assert_eq!(fused.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [2, 1, 4]);
    }
}
