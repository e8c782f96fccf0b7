//! The statements of a volume: device, disk, metadata (C49..C53).

use super::super::error::{Diagnostic, Sink};
use super::super::lexer::TokenKind;
use super::super::model::{Device, MetaDisk};
use super::super::options::{Section, nearest};
use super::super::parser::Word;
use super::super::source::{SourceMap, Span};
use super::super::values::{MAX_MINOR, MAX_VOLUME};
use super::cursor::{Cursor, each_statement};
use super::draft::{VolumeDraft, VolumesDraft, put, twice};
use super::settings::{self, Accepts};

/// The statements of a volume.
pub(super) const STATEMENTS: &[&str] = &["device", "disk", "meta-disk", "flexible-meta-disk"];

/// Reads one of [`STATEMENTS`], whose keyword is next.
pub(super) fn statement(
    cursor: &mut Cursor<'_>,
    draft: &mut VolumeDraft,
    files: &SourceMap,
    sink: &mut Sink,
) {
    if try_statement(cursor, draft, files, sink).is_none() {
        draft.broken = true;
        cursor.take_rest();
    }
}

/// As [`statement`]; `None` if a message was due.
fn try_statement(
    cursor: &mut Cursor<'_>,
    draft: &mut VolumeDraft,
    files: &SourceMap,
    sink: &mut Sink,
) -> Option<()> {
    let keyword = cursor.take()?;
    match keyword.text.as_str() {
        "device" => {
            if cursor.peek().is_some() {
                let device = device(cursor, sink)?;
                put(&mut draft.device, "'device'", device, keyword.span.to(cursor.last_span()), sink);
            }
        }
        "disk" if cursor.body().is_some() => {
            let block = cursor.body()?;
            if let Some(first) = draft.options_span {
                twice("section 'disk'", first, keyword.span, sink);
            }
            draft.options_span = Some(keyword.span);
            draft.options.extend(settings::read(Accepts::Section(Section::Disk), block, files, sink));
            return Some(());
        }
        "disk" => {
            let path = cursor.take_text("the path of a disk", sink)?;
            let none = path.is("none");
            check_path(path, "the path of a disk", sink);
            let disk = (!none).then(|| path.text.clone());
            put(&mut draft.disk, "'disk'", disk, path.span, sink);
        }
        "meta-disk" => {
            let span = cursor.peek().map_or(keyword.span, |word| word.span);
            let meta = meta_disk(cursor, sink)?;
            put(&mut draft.meta, "'meta-disk'", meta, span.to(cursor.last_span()), sink);
        }
        _ => {
            let path = cursor.take_text("'internal' or the path of a device", sink)?;
            check_path(path, "the path of a device", sink);
            let meta = if path.text == "internal" {
                MetaDisk::Internal
            } else {
                MetaDisk::Flexible(path.text.clone())
            };
            put(&mut draft.meta, "'meta-disk'", meta, path.span, sink);
        }
    }
    cursor.expect_no_body(sink);
    Some(())
}

/// Reads `volume N { }`, whose keyword is next.
pub(super) fn section(
    cursor: &mut Cursor<'_>,
    volumes: &mut VolumesDraft,
    files: &SourceMap,
    sink: &mut Sink,
) {
    let span = cursor.peek().map_or_else(|| cursor.last_span(), |word| word.span);
    cursor.take();
    let id = cursor.take_number("volume number", 0, u64::from(MAX_VOLUME), sink);
    let Some(block) = cursor.expect_body("volume", sink) else { return };
    let mut draft = VolumeDraft::default();
    each_statement(&block.nodes, files, sink, |cursor, sink| {
        let Some(word) = cursor.peek() else { return };
        if STATEMENTS.iter().any(|keyword| word.is(keyword)) {
            statement(cursor, &mut draft, files, sink);
        } else if word.is("tiebreaker") {
            cursor.take_rest();
            sink.warning(word.span, "'tiebreaker' has no effect: it is a statement of DRBD 9");
        } else {
            draft.broken = true;
            unknown_statement(cursor, "volume", STATEMENTS, sink);
        }
    });
    settings::reject_contradictions(&draft.options, sink);
    let Some(id) = id.and_then(|id| u16::try_from(id).ok()) else { return };
    match volumes.explicit.get(&id) {
        Some((first, _)) => twice(&format!("volume {id}"), *first, span, sink), // C90
        None => {
            volumes.explicit.insert(id, (span, draft));
        }
    }
}

/// Reports a word that starts no statement here, and passes the statement.
pub(super) fn unknown_statement(cursor: &mut Cursor<'_>, section: &str, known: &[&str], sink: &mut Sink) {
    let Some(word) = cursor.peek() else { return };
    cursor.take_rest();
    let place = if section.is_empty() { "at top level".to_owned() } else { format!("in '{section}'") };
    if !word.is_text() {
        super::cursor::unexpected(word, sink);
        return;
    }
    let text: String = word.text.chars().take(40).collect();
    if word.kind == TokenKind::Quoted && known.contains(&text.as_str()) {
        sink.error(word.span, format!("the keyword '{text}' must not be quoted here"));
        return;
    }
    if let Some(option_section) = Section::ALL.iter().find(|section| section.option(&text).is_some()) {
        let keyword = option_section.keyword();
        sink.error(
            word.span,
            format!("option '{text}' belongs in a section '{keyword}', not directly {place}"),
        );
        return;
    }
    if super::cursor::KEYWORDS.contains(&text.as_str()) {
        let error = Diagnostic::error(word.span, format!("'{text}' cannot stand {place}"));
        sink.push(if cursor.has_body() { error.help("is a '}' missing before it?") } else { error });
        return;
    }
    let options = Section::ALL.iter().flat_map(|section| section.options()).map(|spec| spec.name);
    let hint = match (nearest(&text, known.iter().copied()), nearest(&text, options)) {
        (Some(word), _) => format!("; did you mean '{word}'?"),
        (None, Some(option)) => {
            let place = Section::ALL.iter().find(|section| section.option(option).is_some());
            let place = place.map_or("", |section| section.keyword());
            format!("; did you mean the option '{option}' of section '{place}'?")
        }
        (None, None) => String::new(),
    };
    let error = Diagnostic::error(word.span, format!("unknown keyword '{text}' {place}{hint}"));
    sink.push(error.help(format!("allowed are {}", known.join(", "))));
}

/// `[NAME] [minor N]` (C49), of which one is there: a bare `device;` counts as missing.
fn device(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<Device> {
    let name = match cursor.peek() {
        None => return None,
        Some(word) if word.is("minor") => None,
        Some(_) => Some(cursor.take_text("a device name", sink)?),
    };
    let minor = if cursor.take_keyword("minor") {
        Some(cursor.take_number("minor number", 0, u64::from(MAX_MINOR), sink)?)
    } else {
        None
    };
    let minor = minor.and_then(|minor| u32::try_from(minor).ok());
    let Some(name) = name else { return minor.map(|minor| Device { name: None, minor }) };
    named_device(name, minor, sink)
}

fn named_device(name: &Word, minor: Option<u32>, sink: &mut Sink) -> Option<Device> {
    let stem = name.text.strip_prefix("/dev/").unwrap_or(&name.text);
    let Some(rest) = stem.strip_prefix("drbd") else {
        let message = format!("the device name '{}' does not start with /dev/drbd", name.text);
        sink.push(
            Diagnostic::error(name.span, message).help("write '/dev/drbd1', or '/dev/drbd_NAME minor 1'"),
        );
        return None;
    };
    let digits = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| rest.parse::<u32>().ok().filter(|number| *number <= MAX_MINOR));
    let path = format!("/dev/{stem}");
    match (number, minor) {
        (Some(None), _) => {
            sink.error(
                name.span,
                format!("minor number {rest} is out of range: allowed are 0 to {MAX_MINOR}"),
            );
            None
        }
        (Some(Some(number)), Some(minor)) if number != minor => {
            let message =
                format!("the device name '{}' and the minor number {minor} contradict each other", name.text);
            let help = format!(
                "write '/dev/drbd{minor} minor {minor}', leave one of them out, or name it '/dev/drbd_...'"
            );
            sink.push(Diagnostic::error(name.span, message).help(help));
            None
        }
        (Some(Some(number)), _) => Some(Device { name: Some(path), minor: number }),
        (None, None) => {
            let message =
                format!("no minor number: neither given nor part of the device name '{}'", name.text);
            sink.push(Diagnostic::error(name.span, message).help("add 'minor N'"));
            None
        }
        (None, Some(_)) if !rest.starts_with('_') => {
            let message = format!("the device name '{}' does not start with /dev/drbd_", name.text);
            sink.push(
                Diagnostic::error(name.span, message)
                    .help("a free name needs the '_', as '/dev/drbd_data minor 1'"),
            );
            None
        }
        (None, Some(minor)) => Some(Device { name: Some(path), minor }),
    }
}

/// `internal`, `PATH` or `PATH [ N ]` (C53).
fn meta_disk(cursor: &mut Cursor<'_>, sink: &mut Sink) -> Option<MetaDisk> {
    let path = cursor.take_text("'internal' or the path of a device", sink)?;
    check_path(path, "the path of a device", sink);
    let bracket = cursor.peek().filter(|word| word.text == "[" && word.kind == TokenKind::Mark);
    match (path.text.as_str(), bracket) {
        ("internal", None) => Some(MetaDisk::Internal),
        ("internal", Some(bracket)) => {
            sink.error(bracket.span, "internal metadata has no slots");
            None
        }
        (text, None) => Some(MetaDisk::Flexible(text.to_owned())),
        (text, Some(_)) => {
            cursor.take();
            let slot = cursor.take_number("slot number", 0, u64::from(u32::MAX), sink)?;
            let last = cursor.last_span();
            match cursor.take() {
                Some(word) if word.text == "]" => {}
                other => {
                    let span: Span = other.map_or_else(|| last.behind(), |word| word.span);
                    sink.error(span, "']' expected behind the slot number");
                    return None;
                }
            }
            Some(MetaDisk::Indexed(text.to_owned(), u32::try_from(slot).ok()?))
        }
    }
}

fn check_path(word: &Word, what: &str, sink: &mut Sink) {
    if word.text.is_empty() {
        sink.error(word.span, format!("{what} is empty"));
    }
}
