//! `resource NAME { }` and `common { }`: their bodies, statement by statement.

use super::super::error::Sink;
use super::super::model::Sections;
use super::super::options::Section;
use super::super::parser::{Block, End, Node, Word};
use super::super::source::{SourceMap, Span};
use super::cursor::{Cursor, each_statement};
use super::draft::{Once, ResourceDraft, VolumesDraft};
use super::settings::{self, Accepts};
use super::{host, volume};

/// What a resource holds.
const STATEMENTS: &[&str] = &[
    "protocol",
    "on",
    "floating",
    "stacked-on-top-of",
    "volume",
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "net",
    "syncer",
    "startup",
    "handlers",
    "options",
    "proxy",
    "ignore-on",
    "connection",
    "connection-mesh",
    "template-file",
    "skip",
];

/// What `common` holds.
const COMMON_STATEMENTS: &[&str] =
    &["protocol", "disk", "net", "syncer", "startup", "handlers", "options", "proxy"];

/// Reads the body of a resource.
pub(super) fn read(
    name: &Word,
    keyword: Span,
    block: &Block,
    files: &SourceMap,
    sink: &mut Sink,
) -> ResourceDraft {
    check_resource_name(name, sink);
    let mut draft = empty(name.text.clone(), keyword, block);
    each_statement(&block.nodes, files, sink, |cursor, sink| {
        let Some(word) = cursor.peek() else { return };
        match STATEMENTS.iter().find(|keyword| word.is(keyword)).copied() {
            Some("on") => host::on(cursor, &mut draft, files, sink),
            Some("floating") => host::floating(cursor, &mut draft, files, sink),
            Some("volume") => volume::section(cursor, &mut draft.volumes, files, sink),
            Some("device" | "meta-disk" | "flexible-meta-disk") => {
                volume_default(cursor, &mut draft, files, sink)
            }
            Some("disk") if cursor.disk_path_follows() => volume_default(cursor, &mut draft, files, sink),
            Some("stacked-on-top-of") => {
                unsupported(cursor, &mut draft, "it is stacked on another resource", sink);
            }
            Some("connection" | "connection-mesh") => {
                unsupported(cursor, &mut draft, "it uses DRBD 9's connection sections", sink);
            }
            Some("template-file") => unsupported(cursor, &mut draft, "it uses DRBD 9's template-file", sink),
            Some("ignore-on") => {
                cursor.take();
                cursor.take_name("a host name", sink);
                cursor.expect_no_body(sink);
                sink.warning(word.span, "'ignore-on' is deprecated and has no effect"); // C47
            }
            Some(_) => section(cursor, &mut draft, files, sink),
            None if word.is("_this_host") || word.is("_remote_host") => {
                cursor.take_rest();
                sink.error(
                    word.span,
                    format!("'{}' stands in the output of 'show' only, not in files", word.text),
                ); // C46
            }
            None => volume::unknown_statement(cursor, "resource", STATEMENTS, sink),
        }
    });
    check_sections(&draft, sink);
    draft
}

/// Reads the body of `common`.
pub(super) fn read_common(keyword: Span, block: &Block, files: &SourceMap, sink: &mut Sink) -> ResourceDraft {
    let mut draft = empty("common".to_owned(), keyword, block);
    each_statement(&block.nodes, files, sink, |cursor, sink| {
        let Some(word) = cursor.peek() else { return };
        if word.is("on") || word.is("floating") || word.is("stacked-on-top-of") {
            cursor.take_rest();
            sink.error(word.span, "no host sections are allowed in 'common'"); // C42
        } else if COMMON_STATEMENTS.iter().any(|keyword| word.is(keyword)) {
            section(cursor, &mut draft, files, sink);
        } else {
            volume::unknown_statement(cursor, "common", COMMON_STATEMENTS, sink);
        }
    });
    check_sections(&draft, sink);
    draft
}

fn empty(name: String, span: Span, block: &Block) -> ResourceDraft {
    ResourceDraft {
        name,
        span,
        open: block.open,
        sections: Sections::default(),
        volumes: VolumesDraft::default(),
        hosts: Vec::new(),
        unsupported: None,
        once: Once::default(),
    }
}

/// A device, disk or meta-disk statement outside of the hosts: their default (C74).
fn volume_default(cursor: &mut Cursor<'_>, draft: &mut ResourceDraft, files: &SourceMap, sink: &mut Sink) {
    volume::statement(cursor, &mut draft.volumes.implicit, files, sink);
}

fn unsupported(cursor: &mut Cursor<'_>, draft: &mut ResourceDraft, why: &str, sink: &mut Sink) {
    let Some(word) = cursor.peek() else { return };
    cursor.take_rest();
    draft.leave_out(word.span, why, sink);
}

/// One of the sections that a resource and `common` share.
fn section(cursor: &mut Cursor<'_>, draft: &mut ResourceDraft, files: &SourceMap, sink: &mut Sink) {
    let Some(word) = cursor.peek() else { return };
    let keyword = word.text.as_str();
    if keyword == "protocol" {
        draft.once.claim("'protocol'", word.span, sink);
        if let Some(written) = settings::protocol(cursor, files, sink) {
            draft.sections.push(written);
        }
        return;
    }
    cursor.take();
    let accepts = match keyword {
        "net" => Accepts::Section(Section::Net),
        "disk" => Accepts::Section(Section::Disk),
        "options" => Accepts::Section(Section::Options),
        "startup" => Accepts::Section(Section::Startup),
        "handlers" => Accepts::Section(Section::Handlers),
        "proxy" => Accepts::Section(Section::Proxy),
        _ => Accepts::Syncer,
    };
    let Some(block) = cursor.expect_body(keyword, sink) else { return };
    draft.once.claim(&format!("section '{keyword}'"), word.span, sink);
    if keyword == "proxy" {
        sink.warning(word.span, "section 'proxy' has no effect: urbd has no proxy");
        let (plugins, others): (Vec<Node>, Vec<Node>) = block
            .nodes
            .iter()
            .cloned()
            .partition(|node| node.words.first().is_some_and(|word| word.is("plugin")));
        draft.sections.plugins.extend(plugins.iter().flat_map(plugin_lines));
        let rest = Block { nodes: others, ..block.clone() };
        for written in settings::read(accepts, &rest, files, sink) {
            draft.sections.push(written);
        }
        return;
    }
    for written in settings::read(accepts, block, files, sink) {
        draft.sections.push(written);
    }
}

fn plugin_lines(node: &Node) -> Vec<String> {
    let End::Block(block) = &node.end else { return Vec::new() };
    let line = |node: &Node| {
        let words: Vec<&str> = node.words.iter().map(|word| word.text.as_str()).collect();
        words.join(" ")
    };
    block.nodes.iter().map(line).collect()
}

fn check_sections(draft: &ResourceDraft, sink: &mut Sink) {
    for section in Section::ALL {
        settings::reject_contradictions(draft.sections.list(*section), sink);
    }
}

/// Names that could not be addressed on a command line are refused (C43).
fn check_resource_name(name: &Word, sink: &mut Sink) {
    let text = name.text.as_str();
    let problem = if text.is_empty() {
        "is empty"
    } else if text == "all" {
        "means all resources in commands"
    } else if text.contains(['/', ':']) {
        "contains '/' or ':', which separate a volume or a peer in commands"
    } else if text.starts_with('-') {
        "starts with '-' like an option"
    } else if text.starts_with("minor-") {
        "starts with 'minor-', which stands for a device in commands"
    } else if text.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return;
    };
    sink.error(name.span, format!("the resource name '{}' {problem}", text.escape_debug()));
}
