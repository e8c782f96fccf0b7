//! Host sections: `on NAME { }` and `floating ADDRESS { }` (C44, C45).

use super::super::error::{Diagnostic, Sink};
use super::super::model::HostKind;
use super::super::options::Section;
use super::super::parser::Block;
use super::super::source::{SourceMap, Span};
use super::cursor::{Cursor, check_name, each_statement, unexpected};
use super::draft::{HostDraft, ResourceDraft, VolumesDraft, put};
use super::settings::{self, Accepts};
use super::{address, volume};

/// What a host section holds.
const STATEMENTS: &[&str] = &[
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "address",
    "alternate-link-address",
    "volume",
    "options",
    "proxy",
    "node-id",
    "skip",
];

/// The highest node id; DRBD 9 has them, urbd reads past them (C84).
const MAX_NODE_ID: u64 = 31;

/// Reads `on NAME ... { }`, whose keyword is next.
pub(super) fn on(cursor: &mut Cursor<'_>, draft: &mut ResourceDraft, files: &SourceMap, sink: &mut Sink) {
    let Some(keyword) = cursor.take() else { return };
    let mut names = Vec::new();
    for word in cursor.take_rest() {
        if word.is_text() {
            check_name(word, "a host name", sink);
            names.push(word.text.clone());
        } else {
            unexpected(word, sink);
        }
    }
    let Some(block) = cursor.expect_body("on NAME", sink) else { return };
    if names.is_empty() {
        sink.error(keyword.span.behind(), "a host name expected after 'on'");
    }
    for name in &names {
        draft.once.claim(&format!("host section 'on {name}'"), keyword.span, sink);
    }
    let mut host = empty(HostKind::Named, names, keyword.span);
    body(block, &mut host, draft, files, sink);
    draft.hosts.push(host);
}

/// Reads `floating ADDRESS ;` or `floating ADDRESS { }`, whose keyword is next.
pub(super) fn floating(
    cursor: &mut Cursor<'_>,
    draft: &mut ResourceDraft,
    files: &SourceMap,
    sink: &mut Sink,
) {
    let Some(keyword) = cursor.take() else { return };
    let mut host = empty(HostKind::Floating, Vec::new(), keyword.span);
    host.address = address::read(cursor, sink);
    if let Some(block) = cursor.body() {
        body(block, &mut host, draft, files, sink);
    }
    if host.address.is_some() {
        draft.hosts.push(host);
    }
}

fn empty(kind: HostKind, names: Vec<String>, span: Span) -> HostDraft {
    HostDraft {
        kind,
        names,
        span,
        address: None,
        alternate_address: None,
        volumes: VolumesDraft::default(),
        options: Vec::new(),
        broken: false,
    }
}

fn body(block: &Block, host: &mut HostDraft, draft: &mut ResourceDraft, files: &SourceMap, sink: &mut Sink) {
    let mut options_span = None;
    each_statement(&block.nodes, files, sink, |cursor, sink| {
        let Some(word) = cursor.peek() else { return };
        let keyword = STATEMENTS.iter().find(|keyword| word.is(keyword)).copied();
        match keyword {
            Some("device" | "disk" | "meta-disk" | "flexible-meta-disk") => {
                volume::statement(cursor, &mut host.volumes.implicit, files, sink);
            }
            Some("volume") => volume::section(cursor, &mut host.volumes, files, sink),
            Some("address") => {
                cursor.take();
                own_address(cursor, host, word.span, sink);
            }
            Some("alternate-link-address") => {
                cursor.take();
                if let Some(address) = address::read(cursor, sink) {
                    sink.warning(
                        word.span,
                        "urbd does not use a second path: 'alternate-link-address' has no effect",
                    );
                    put(
                        &mut host.alternate_address,
                        "'alternate-link-address'",
                        address.value,
                        address.span,
                        sink,
                    );
                }
                cursor.expect_no_body(sink);
            }
            Some("options") => {
                cursor.take();
                if let Some(first) = options_span.replace(word.span) {
                    super::draft::twice("section 'options'", first, word.span, sink);
                }
                host_options(cursor, host, word.span, files, sink);
            }
            Some("node-id") => {
                cursor.take();
                cursor.take_number("node-id", 0, MAX_NODE_ID, sink);
                cursor.expect_no_body(sink);
            }
            Some("proxy") => {
                cursor.take_rest();
                draft.leave_out(word.span, "it replicates over DRBD Proxy", sink);
            }
            Some(_) | None => {
                host.broken = true;
                volume::unknown_statement(cursor, "on", STATEMENTS, sink);
            }
        }
    });
    implicit_disk_once(host, sink);
    settings::reject_contradictions(&host.volumes.implicit.options, sink);
}

fn own_address(cursor: &mut Cursor<'_>, host: &mut HostDraft, span: Span, sink: &mut Sink) {
    let address = address::read(cursor, sink);
    if host.kind == HostKind::Floating {
        let error = Diagnostic::error(span, "'address' cannot stand in a 'floating' section"); // C45
        sink.push(error.help("the address behind 'floating' is the host's address"));
    } else if let Some(address) = address {
        put(&mut host.address, "'address'", address.value, address.span, sink);
    } else {
        host.broken = true;
    }
    cursor.expect_no_body(sink);
}

fn host_options(
    cursor: &mut Cursor<'_>,
    host: &mut HostDraft,
    span: Span,
    files: &SourceMap,
    sink: &mut Sink,
) {
    let Some(block) = cursor.expect_body("options", sink) else { return };
    sink.push(
        Diagnostic::warning(span, "a host's own 'options' have no effect") // C73
            .help("move them to the resource's section 'options'"),
    );
    host.options = settings::read(Accepts::Section(Section::Options), block, files, sink);
    settings::reject_contradictions(&host.options, sink);
}

/// `disk PATH;` and `disk { }` directly in a host count as one statement (C52).
fn implicit_disk_once(host: &HostDraft, sink: &mut Sink) {
    let volume = &host.volumes.implicit;
    if let (Some(disk), Some(options)) = (&volume.disk, volume.options_span) {
        let (first, again) = (disk.span.min(options), disk.span.max(options));
        sink.push(
            Diagnostic::error(again, "'disk' is given twice")
                .note(first, "first given here")
                .help("a path and options need a section 'volume 0 { disk PATH; disk { ... } }'"),
        );
    }
}
