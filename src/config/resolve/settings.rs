//! Reads the sections that hold options: `net`, `disk`, `options`, `startup`, `handlers`, `proxy`,
//! `global`, and 8.3's `syncer`.

use std::collections::HashMap;

use super::super::error::{Diagnostic, Sink};
use super::super::model::Written;
use super::super::options::{AfterSb0p, Kind, OptionSpec, Section, Support, Value, ValueError, nearest};
use super::super::parser::{Block, Word};
use super::super::source::{SourceMap, Span};
use super::cursor::{Cursor, KEYWORDS, each_statement, unexpected};

/// What 8.3's `syncer` section held (C57).
const SYNCER: &[&str] = &[
    "resync-rate",
    "resync-after",
    "al-extents",
    "c-plan-ahead",
    "c-fill-target",
    "c-delay-target",
    "c-max-rate",
    "c-min-rate",
    "verify-alg",
    "csums-alg",
    "use-rle",
    "cpu-mask",
    "on-no-data-accessible",
];

/// Older names of options (C57, C59).
const ALIASES: &[(Section, &str, &str)] = &[
    (Section::Disk, "rate", "resync-rate"),
    (Section::Disk, "after", "resync-after"),
    (Section::Handlers, "outdate-peer", "fence-peer"),
];

/// The value prefix of `after-sb-0pri` that names a node (C66).
pub(super) const DISCARD_NODE: &str = "discard-node-";

/// Which options may stand in a body.
#[derive(Clone, Copy)]
pub(super) enum Accepts {
    /// Those of one section.
    Section(Section),
    /// Those of 8.3's syncer section; each goes to its modern section.
    Syncer,
}

impl Accepts {
    const fn keyword(self) -> &'static str {
        match self {
            Self::Section(section) => section.keyword(),
            Self::Syncer => "syncer",
        }
    }

    fn options(self) -> Box<dyn Iterator<Item = &'static OptionSpec>> {
        match self {
            // `fencing` moved to `net` with DRBD 9; either place is good here (C59).
            Self::Section(Section::Net) => {
                Box::new(Section::Net.options().chain(Section::Disk.option("fencing")))
            }
            Self::Section(section) => Box::new(section.options()),
            Self::Syncer => Box::new(
                [Section::Disk, Section::Net, Section::Options]
                    .into_iter()
                    .flat_map(Section::options)
                    .filter(|spec| SYNCER.contains(&spec.name)),
            ),
        }
    }

    /// The option `name`, and whether the name negates it (`no-disk-barrier`, C59).
    fn find(self, name: &str) -> Option<(&'static OptionSpec, bool)> {
        let plain = |name: &str| {
            let modern = ALIASES
                .iter()
                .find(|(section, old, _)| *old == name && self.options().any(|spec| spec.section == *section))
                .map_or(name, |(_, _, modern)| *modern);
            self.options().find(|spec| spec.name == modern)
        };
        if let Some(spec) = plain(name) {
            return Some((spec, false));
        }
        let spec = plain(name.strip_prefix("no-")?)?;
        (spec.kind == Kind::Bool).then_some((spec, true))
    }
}

/// Reads a body of options, in the order of the text.
pub(super) fn read(accepts: Accepts, block: &Block, files: &SourceMap, sink: &mut Sink) -> Vec<Written> {
    let mut list = Vec::new();
    each_statement(&block.nodes, files, sink, |cursor, sink| {
        list.extend(option(accepts, cursor, files, sink));
    });
    list
}

/// Reads `protocol X` where it stands as a statement of its own (C58).
pub(super) fn protocol(cursor: &mut Cursor<'_>, files: &SourceMap, sink: &mut Sink) -> Option<Written> {
    option(Accepts::Section(Section::Net), cursor, files, sink)
}

/// Reports options that were given twice with different values (C71).
pub(super) fn reject_contradictions(list: &[Written], sink: &mut Sink) {
    let mut first = HashMap::new();
    for later in list {
        let earlier: &Written = first.entry(later.spec.name).or_insert(later);
        if !same_value(earlier, later) {
            let message = format!("option '{}' is given twice with different values", later.spec.name);
            let error = Diagnostic::error(later.span, message).note(earlier.span, "first given here");
            sink.push(error.help("keep one of them"));
        }
    }
}

fn same_value(a: &Written, b: &Written) -> bool {
    match (&a.spec.kind, &a.value, &b.value) {
        (kind @ Kind::Number(_), Some(a), Some(b)) => {
            u64::parse(kind, Some(a)).ok() == u64::parse(kind, Some(b)).ok()
        }
        (_, a, b) => a == b,
    }
}

/// Reads one option.
fn option(accepts: Accepts, cursor: &mut Cursor<'_>, files: &SourceMap, sink: &mut Sink) -> Option<Written> {
    let name = cursor.take()?;
    if !name.is_text() {
        unexpected(name, sink);
        cursor.take_rest();
        return None;
    }
    let Some((spec, negated)) = accepts.find(&name.text) else {
        unknown(accepts, name, cursor, sink);
        cursor.take_rest();
        return None;
    };
    if let Support::Ignored(why) = spec.support
        && spec.section != Section::Proxy
    {
        sink.warning(name.span, format!("option '{}' has no effect: {why}", spec.name));
    }
    let written =
        if negated { negation(spec, name, cursor, sink) } else { value(spec, name, cursor, files, sink) };
    cursor.expect_no_body(sink);
    written
}

/// `no-disk-barrier;` (C59).
fn negation(
    spec: &'static OptionSpec,
    name: &Word,
    cursor: &mut Cursor<'_>,
    sink: &mut Sink,
) -> Option<Written> {
    if let Some(word) = cursor.peek().filter(|word| matches!(word.text.as_str(), "yes" | "no")) {
        sink.error(word.span, format!("'{}' takes no value; write '{} {}'", name.text, spec.name, word.text));
        cursor.take();
        return None;
    }
    Some(Written { spec, value: Some("no".to_owned()), span: name.span })
}

/// Reads the value of an option whose name is taken.
fn value(
    spec: &'static OptionSpec,
    name: &Word,
    cursor: &mut Cursor<'_>,
    files: &SourceMap,
    sink: &mut Sink,
) -> Option<Written> {
    let words = value_words(spec, name, cursor, files);
    if let Some(mark) = words.iter().find(|word| !word.is_text()) {
        unexpected(mark, sink);
        cursor.take_rest();
        return None;
    }
    if let ([_, second, ..], Kind::Command) = (words, spec.kind) {
        let error =
            Diagnostic::error(second.span, format!("the command of '{}' has several words", name.text));
        sink.push(error.help("put the whole command line in double quotes"));
        return None;
    }
    if let (Kind::Flag, Some(word)) = (spec.kind, cursor.peek())
        && matches!(word.text.as_str(), "yes" | "no")
    {
        cursor.take();
        sink.error(word.span, format!("option '{}' takes no value", spec.name));
        return None;
    }
    let span = words.first().map_or(name.span, |word| word.span);
    let text = match words {
        [] => None,
        words => Some(words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")),
    };
    match check(spec, text.as_deref()) {
        Ok(value) => Some(Written { spec, value, span: name.span.to(span) }),
        Err(source) => {
            if !words.iter().any(|word| word.broken) {
                sink.push(bad_value(spec, span, text.as_deref().unwrap_or_default(), &source));
            }
            None
        }
    }
}

/// How many of the next words are the value of `spec`. A word on a later line that names an option
/// of the section is the next statement, behind a forgotten `;`.
fn value_words<'n>(spec: &OptionSpec, name: &Word, cursor: &mut Cursor<'n>, files: &SourceMap) -> &'n [Word] {
    let rest = cursor.take_rest();
    let mut previous = name.span;
    let mut count = 0;
    for word in rest {
        let new_line = files.position(word.span).line > files.position(previous).line;
        let next_option = spec.section.option(&word.text).is_some();
        let wanted = match spec.kind {
            Kind::Flag => false,
            Kind::Bool => count == 0 && !next_option,
            Kind::Hosts => !(new_line && next_option),
            Kind::Command if count > 0 => !new_line,
            Kind::Command => !(new_line && next_option),
            Kind::Number(_) | Kind::Word(_) | Kind::WordAnyCase(_) | Kind::Text { .. } | Kind::After => {
                count == 0 && !(new_line && next_option)
            }
        };
        if !wanted {
            break;
        }
        count += 1;
        previous = word.span;
    }
    cursor.give_back(rest.len() - count);
    &rest[..count]
}

/// Checks a value and gives it the form in which it is kept.
fn check(spec: &OptionSpec, text: Option<&str>) -> Result<Option<String>, ValueError> {
    match spec.kind {
        Kind::After => {
            // Here it names a resource (C69); which minor that is turns out later.
            let text = text.ok_or(ValueError::Missing)?;
            let volume = text.split_once('/').map(|(_, volume)| volume);
            let number = |volume: &str| volume.parse::<u16>().is_ok();
            if text.starts_with('/') || text.is_empty() || volume.is_some_and(|volume| !number(volume)) {
                return Err(ValueError::NotANumber);
            }
            return Ok(Some(text.to_owned()));
        }
        Kind::Word(words) if words == AfterSb0p::WORDS => {
            if let Some(text) =
                text.filter(|text| text.len() > DISCARD_NODE.len() && text.starts_with(DISCARD_NODE))
            {
                return Ok(Some(text.to_owned()));
            }
        }
        Kind::Bool
        | Kind::Flag
        | Kind::Number(_)
        | Kind::Word(_)
        | Kind::WordAnyCase(_)
        | Kind::Text { .. }
        | Kind::Hosts
        | Kind::Command => {}
    }
    spec.check(text)?;
    Ok(match spec.kind {
        Kind::Flag => None,
        Kind::Bool => Some(text.unwrap_or("yes").to_owned()),
        Kind::WordAnyCase(_) => text.map(str::to_ascii_uppercase),
        Kind::Number(_) | Kind::Word(_) | Kind::Text { .. } | Kind::After | Kind::Hosts | Kind::Command => {
            text.map(str::to_owned)
        }
    })
}

/// The message about a value that does not fit.
fn bad_value(spec: &OptionSpec, span: Span, text: &str, source: &ValueError) -> Diagnostic {
    let name = spec.name;
    let shown: String = text.chars().take(40).collect();
    match source {
        ValueError::Missing => Diagnostic::error(span, format!("option '{name}' needs a value")),
        ValueError::Unwanted => Diagnostic::error(span, format!("option '{name}' takes no value")),
        ValueError::UnknownWord { words } => {
            let guess = nearest(text, words.iter().copied());
            let hint = guess.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
            Diagnostic::error(span, format!("'{shown}' is no value of option '{name}'{hint}"))
                .help(format!("allowed are {}", words.join(", ")))
        }
        ValueError::NotBool => {
            let error = format!("option '{name}' is 'yes' or 'no', not '{shown}'");
            Diagnostic::error(span, error)
        }
        ValueError::NotANumber if spec.kind == Kind::After => {
            Diagnostic::error(span, format!("option '{name}': '{shown}' is not RESOURCE or RESOURCE/VOLUME"))
        }
        ValueError::NotANumber => {
            let error = Diagnostic::error(span, format!("option '{name}': '{shown}' is not a number"));
            error.help("write digits and at most one of k, M, G (powers of 1024) or s (sectors)")
        }
        ValueError::OutOfRange { .. } | ValueError::TooLong { .. } => {
            Diagnostic::error(span, format!("option '{name}': {source}"))
        }
    }
}

/// Reports a word that is no option here, with the best guess at what was meant.
fn unknown(accepts: Accepts, name: &Word, cursor: &Cursor<'_>, sink: &mut Sink) {
    let text = name.text.as_str();
    let keyword = accepts.keyword();
    let section_keyword = KEYWORDS.contains(&text) && cursor.has_body();
    if section_keyword {
        let error =
            Diagnostic::error(name.span, format!("section '{text}' cannot stand in section '{keyword}'"));
        sink.push(error.help("is a '}' missing before it?"));
        return;
    }
    let other = Section::ALL.iter().find(|section| Accepts::Section(**section).find(text).is_some());
    if let Some(other) = other {
        let place = other.keyword();
        sink.error(name.span, format!("option '{text}' belongs in section '{place}', not in '{keyword}'"));
        return;
    }
    let shown: String = text.chars().take(40).collect();
    let (prefix, stem) = text.strip_prefix("no-").map_or(("", text), |stem| ("no-", stem));
    let aliases = ALIASES.iter().map(|(_, old, _)| *old).filter(|old| accepts.find(old).is_some());
    let here = nearest(stem, accepts.options().map(|spec| spec.name).chain(aliases));
    let hint = match here {
        Some(word) => format!("; did you mean '{prefix}{word}'?"),
        None => nearest_elsewhere(stem)
            .map(|(section, word)| format!("; did you mean '{word}' in section '{}'?", section.keyword()))
            .unwrap_or_default(),
    };
    sink.error(name.span, format!("unknown option '{shown}'{hint}"));
}

fn nearest_elsewhere(name: &str) -> Option<(Section, &'static str)> {
    let names = Section::ALL.iter().flat_map(|section| section.options()).map(|spec| spec.name);
    let word = nearest(name, names)?;
    let section = Section::ALL.iter().find(|section| section.option(word).is_some())?;
    Some((*section, word))
}
