//! The outline of a Markdown text: its headings and its seams.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::segment::{Seam, Strength};

/// What the cutter has to know of a Markdown text.
#[derive(Debug, Default)]
pub(super) struct Outline {
    headings: Vec<Heading>,
    /// Where blocks, items and sections begin, in order.
    starts: Vec<(usize, Strength)>,
    /// Stretches within which no seam is better than so much, in order.
    caps: Vec<(Range<usize>, Strength)>,
}

#[derive(Debug)]
struct Heading {
    at: usize,
    level: u8,
    text: String,
    /// The heading that it stands under.
    parent: Option<usize>,
}

impl Outline {
    /// Reads a text.
    pub(super) fn of(text: &str) -> Self {
        let mut outline = Self::default();
        let mut depth = 0_usize;
        let mut lists = 0_usize;
        let mut title: Option<Heading> = None;
        let options =
            Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_FOOTNOTES;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        outline.block(&tag, range.clone(), text);
                    }
                    match tag {
                        Tag::Heading { level, .. } if depth == 0 => {
                            let heading = Heading {
                                at: range.start,
                                level: level as u8,
                                text: String::new(),
                                parent: None,
                            };
                            title = Some(heading);
                        }
                        Tag::List(_) => lists += 1,
                        Tag::Item => {
                            let strength = if lists == 1 { Strength::ITEM } else { Strength::INNER_ITEM };
                            outline.starts.push((range.start, strength));
                        }
                        _ => {}
                    }
                    depth += 1;
                }
                Event::End(tag) => {
                    depth = depth.saturating_sub(1);
                    match tag {
                        TagEnd::Heading(_) if depth == 0 => outline.heading(title.take()),
                        TagEnd::List(_) => lists = lists.saturating_sub(1),
                        _ => {}
                    }
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(title) = &mut title {
                        title.text.push_str(&words);
                    }
                }
                Event::SoftBreak | Event::HardBreak => {
                    if let Some(title) = &mut title {
                        title.text.push(' ');
                    }
                }
                _ => {}
            }
        }
        outline
    }

    fn block(&mut self, tag: &Tag<'_>, mut range: Range<usize>, text: &str) {
        let start = range.start;
        let (strength, cap) = match tag {
            Tag::Heading { level, .. } => {
                range.end += blank(&text[range.end..]) + 1;
                (Strength::section(*level as u8), Some(HEADING))
            }
            Tag::CodeBlock(_) | Tag::Table(_) | Tag::HtmlBlock | Tag::MetadataBlock(_) => {
                (Strength::BLOCK, Some(Strength::LINE))
            }
            Tag::Paragraph => (Strength::BLOCK, None),
            _ => (Strength::BLOCK, Some(Strength::SENTENCE)),
        };
        self.starts.push((start, strength));
        if let Some(cap) = cap {
            self.caps.push((range, cap));
        }
    }

    fn heading(&mut self, heading: Option<Heading>) {
        let Some(mut heading) = heading else { return };
        let mut parent = self.headings.len().checked_sub(1);
        while let Some(above) = parent.filter(|above| self.headings[*above].level >= heading.level) {
            parent = self.headings[above].parent;
        }
        heading.parent = parent;
        heading.text.truncate(heading.text.trim_end().len());
        self.headings.push(heading);
    }

    /// Returns the headings that all of a stretch stands under, outermost first; a heading
    /// stands under itself.
    pub(super) fn headings_of(&self, range: Range<usize>) -> Vec<String> {
        let first = self.headings.partition_point(|heading| heading.at <= range.start);
        let within = self.headings[first..].iter().take_while(|heading| heading.at < range.end);
        let mut path = self.path(first.checked_sub(1));
        for heading in within {
            // Under its parent stands whatever it stands under, and it is named in the text.
            let parent = self.path(heading.parent);
            path.truncate(path.iter().zip(&parent).take_while(|(a, b)| a == b).count());
        }
        path.into_iter().map(|index| self.headings[index].text.clone()).collect()
    }

    /// Returns a heading with those that it stands under, outermost first.
    fn path(&self, heading: Option<usize>) -> Vec<usize> {
        let mut path: Vec<usize> =
            std::iter::successors(heading, |index| self.headings[*index].parent).collect();
        path.reverse();
        path
    }

    /// Returns how good it would be to cut before the section that the text begins with.
    pub(super) fn first_section(&self, text: &str) -> Strength {
        let first = self.headings.first().filter(|heading| text[..heading.at].trim().is_empty());
        Strength::section(first.map_or(6, |heading| heading.level))
    }

    /// Rates the seams of a text by its outline.
    pub(super) fn rate(&self, text: &str, seams: &mut [Seam]) {
        let mut starts = self.starts.iter().peekable();
        let mut caps = self.caps.iter().peekable();
        for seam in seams {
            while caps.next_if(|(range, _)| range.end <= seam.at).is_some() {}
            let cap = caps.peek().filter(|(range, _)| range.start < seam.at).map(|(_, cap)| *cap);
            if let Some(cap) = cap {
                seam.strength = seam.strength.min(cap);
            }
            while starts.next_if(|(at, _)| *at < seam.at).is_some() {}
            // A line is cut before its indentation, a block begins behind it.
            let reach = seam.at + indent(&text[seam.at..]);
            while let Some((_, strength)) = starts.next_if(|(at, _)| *at <= reach) {
                if cap != Some(HEADING) {
                    seam.strength = seam.strength.max(*strength);
                }
            }
        }
    }
}

/// A heading stays with what follows it.
const HEADING: Strength = Strength::INNER;

/// Returns the length of the indentation that a text begins with.
pub(super) fn indent(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// Returns the length of the blank lines and indentation that a text begins with.
fn blank(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len()
}
