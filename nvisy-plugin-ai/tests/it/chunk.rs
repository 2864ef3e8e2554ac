//! `ai/chunk`: what becomes of a document.

use nvisy_core::Item;
use nvisy_core::Outcome;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_plugin_ai::{Chunk, Encoding};
use serde_json::json;

fn chunks(chunk: &Chunk, fields: DocumentFields) -> Vec<Item<Document>> {
    let item = Item::detached("document", Document::try_from(fields).unwrap());
    match chunk.apply(&item).unwrap() {
        Outcome::EmitAll(chunks) => chunks,
        other => panic!("{other:?}"),
    }
}

fn texts(chunk: &Chunk, text: &str) -> Vec<String> {
    let chunks = chunks(chunk, DocumentFields { text: text.into(), ..DocumentFields::default() });
    chunks.into_iter().map(|chunk| chunk.text.clone()).collect()
}

#[test]
fn a_chunk_keeps_what_its_document_says_and_adds_its_place() {
    let fields = DocumentFields {
        text: "First sentence here. Second sentence here.".into(),
        title: Some("Sentences".into()),
        language: Some("en".into()),
        mime_type: Some("text/plain".into()),
        source_uri: Some("file:///a.txt".into()),
        byte_range: Some(100..142),
        attributes: [("author".to_owned(), json!("A"))].into(),
        ..DocumentFields::default()
    };
    let chunks = chunks(&Chunk::characters(21), fields.clone());
    assert_eq!(chunks.len(), 2);
    for (ordinal, (chunk, text)) in
        chunks.iter().zip(["First sentence here.", "Second sentence here."]).enumerate()
    {
        let range = chunk.byte_range.clone().unwrap();
        assert_eq!(chunk.text, text);
        assert_eq!(fields.text[(range.start - 100) as usize..(range.end - 100) as usize], chunk.text);
        assert_eq!(chunk.chunk, Some(ordinal as u64));
        assert_eq!(
            (&chunk.title, &chunk.language, &chunk.mime_type),
            (&fields.title, &fields.language, &fields.mime_type)
        );
        assert_eq!((&chunk.source_uri, &chunk.attributes), (&fields.source_uri, &fields.attributes));
    }
}

#[test]
fn a_text_that_was_edited_has_no_place_in_its_source() {
    let edited =
        DocumentFields { text: "shorter".into(), byte_range: Some(0..100), ..DocumentFields::default() };
    assert_eq!(chunks(&Chunk::characters(10), edited)[0].byte_range, None);
}

#[test]
fn another_rule_gives_other_ids_and_the_same_rule_the_same() {
    let ids = |chunk: &Chunk| {
        let fields = DocumentFields { text: "one two three four".into(), ..DocumentFields::default() };
        chunks(chunk, fields).iter().map(Item::id).collect::<Vec<_>>()
    };
    let rules = [
        Chunk::tokens(2),
        Chunk::tokens(2).overlap(1),
        Chunk::tokens(2).encoding(Encoding::O200kBase),
        Chunk::tokens(3),
        Chunk::characters(9),
        Chunk::sentences(2),
        Chunk::markdown(2),
    ];
    let mut all: Vec<_> = rules.iter().flat_map(&ids).collect();
    let len = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), len);
    assert_eq!(ids(&rules[0]), ids(&Chunk::tokens(2).encoding(Encoding::Cl100kBase)));
}

#[test]
fn a_document_without_text_is_dropped() {
    let fields = DocumentFields { text: " \n\t".into(), ..DocumentFields::default() };
    let item = Item::detached("blank", Document::try_from(fields).unwrap());
    assert!(
        matches!(Chunk::tokens(10).apply(&item).unwrap(), Outcome::Drop(reason) if reason == "no text to chunk")
    );
}

const GUIDE: &str = "\
# Guide

Read this first. It is short.

## Install

Run the command:

```sh
cargo install guide

cargo guide --check
```

- one item of the list
- another item of the list

## Use

Ask it *anything*. It answers.
";

#[test]
fn markdown_is_cut_before_headings_and_blocks_stay_whole() {
    let chunks =
        chunks(&Chunk::markdown(30), DocumentFields { text: GUIDE.into(), ..DocumentFields::default() });
    let shown: Vec<_> =
        chunks.iter().map(|chunk| format!("{}\n{}", chunk.attributes["headings"], chunk.text)).collect();
    expect_test::expect![[r#"
        ["Guide"]
        # Guide

        Read this first. It is short.
        =====
        ["Guide","Install"]
        ## Install

        Run the command:

        ```sh
        cargo install guide

        cargo guide --check
        ```
        =====
        ["Guide","Install"]
        - one item of the list
        - another item of the list
        =====
        ["Guide","Use"]
        ## Use

        Ask it *anything*. It answers."#]]
    .assert_eq(&shown.join("\n=====\n"));
}

#[test]
fn markdown_blocks_that_do_not_fit_are_cut_between_lines() {
    let code = format!("```\n{}```\n", "    let line = compute(line) + 1;\n".repeat(20));
    for chunk in texts(&Chunk::markdown(40), &code) {
        assert!(chunk.starts_with("```") || chunk.starts_with("    let"), "{chunk}");
        assert!(chunk.ends_with("```") || chunk.ends_with(';'), "{chunk}");
    }
}

#[test]
fn a_heading_stays_with_what_follows_it() {
    let text = format!("{}\n\n## Next\n\nHere it is.", "word ".repeat(40));
    for chunk in texts(&Chunk::markdown(45), &text) {
        assert!(!chunk.ends_with("Next"), "{chunk}");
    }
}

#[test]
fn hostile_texts_are_cut() {
    let hostile = [
        " ".repeat(1 << 15) + "a",
        "a".repeat(1 << 14),
        ".".repeat(1 << 14),
        "\u{301}".repeat(1 << 13),
        "\u{1f1e9}".repeat(1 << 12),
        "\u{a0}".repeat(1 << 13) + "a",
        "\n".repeat(1 << 15) + "a",
        "[".repeat(1 << 13),
        "> ".repeat(1 << 12) + "a",
        "a\n\n".repeat(1 << 12),
        "- a\n".repeat(1 << 12),
        (0..200).map(|depth| format!("{}- a\n", "  ".repeat(depth))).collect(),
    ];
    for text in hostile {
        for chunk in
            [Chunk::tokens(64).overlap(8), Chunk::markdown(64), Chunk::sentences(3), Chunk::characters(100)]
        {
            assert!(!chunk.ranges(&text).is_empty());
        }
    }
}

#[test]
fn small_sections_go_together_under_what_they_have_in_common() {
    let text =
        "# Log\n\n".to_owned() + &(1..=30).map(|i| format!("## 0.{i}\n\nFixed {i}.\n\n")).collect::<String>();
    let chunks = chunks(&Chunk::markdown(60), DocumentFields { text, ..DocumentFields::default() });
    assert!(chunks.len() < 16, "{}", chunks.len());
    let (last, before) = chunks.split_last().unwrap();
    for chunk in before {
        assert_eq!(chunk.attributes["headings"], json!(["Log"]), "{}", chunk.text);
    }
    assert_eq!(last.attributes["headings"][0], json!("Log"));
}
