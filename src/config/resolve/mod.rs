//! Tree to checked configuration: what the words mean, and whether they fit together.

mod address;
mod build;
mod conflicts;
mod cursor;
mod draft;
mod host;
mod merge;
mod resource;
mod settings;
mod volume;

use super::error::{Diagnostic, Sink};
use super::model::{Global, Resource, Sections, Unsupported};
use super::options::{GlobalOptions, Section, nearest};
use super::parser::{Node, Word};
use super::source::{SourceMap, Span};
use conflicts::Conflicts;
use cursor::{Cursor, each_statement};
use draft::{Once, ResourceDraft};
use settings::Accepts;

/// What stands at top level (C22).
const STATEMENTS: &[&str] = &["global", "common", "resource", "skip", "include"];

/// The module version that `require-drbd-module-version-*` is compared with: what urbd stands for.
const EMULATED_VERSION: (u32, u32, u32) = (8, 4, 11);

/// What the text says, checked. Worth nothing if an error was reported.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) global: Global,
    pub(super) common: Option<Sections>,
    pub(super) resources: Vec<Resource>,
    pub(super) unsupported: Vec<Unsupported>,
}

/// Makes sense of the statements of all files, in the order in which they were included.
pub(super) fn resolve(nodes: &[Node], files: &SourceMap, sink: &mut Sink) -> Resolved {
    let mut top = Top::default();
    each_statement(nodes, files, sink, |cursor, sink| top.statement(cursor, files, sink));
    top.finish(files, sink)
}

#[derive(Default)]
struct Top {
    global: Global,
    common: Option<ResourceDraft>,
    resources: Vec<ResourceDraft>,
    once: Once,
}

impl Top {
    fn statement(&mut self, cursor: &mut Cursor<'_>, files: &SourceMap, sink: &mut Sink) {
        let Some(word) = cursor.peek() else { return };
        if word.is("global") {
            cursor.take();
            self.global(cursor, word.span, files, sink);
        } else if word.is("common") {
            cursor.take();
            let Some(block) = cursor.expect_body("common", sink) else { return };
            let draft = resource::read_common(word.span, block, files, sink);
            if self.once.claim("section 'common'", word.span, sink) {
                self.common = Some(draft);
            }
        } else if word.is("resource") {
            cursor.take();
            self.resource(cursor, word.span, files, sink);
        } else if word.text.starts_with("require-drbd-module-version-") {
            cursor.take();
            require_version(word, cursor, sink);
        } else if word.is("skip") {
            cursor.take_rest();
            sink.error(word.span, "'skip' needs a block in braces");
        } else {
            volume::unknown_statement(cursor, "", STATEMENTS, sink);
        }
    }

    fn global(&mut self, cursor: &mut Cursor<'_>, span: Span, files: &SourceMap, sink: &mut Sink) {
        let Some(block) = cursor.expect_body("global", sink) else { return };
        let first = self.once.claim("section 'global'", span, sink);
        if let Some(before) = self.resources.first() {
            let warning = Diagnostic::warning(span, "section 'global' should stand before all resources"); // C41
            sink.push(warning.note(before.span, "the first one is here"));
        }
        let written = settings::read(Accepts::Section(Section::Global), block, files, sink);
        settings::reject_contradictions(&written, sink);
        let mut options = GlobalOptions::default();
        for written in &written {
            // Checked where it was read.
            let _ = options.set(written.spec.name, written.value.as_deref());
        }
        if first {
            self.global = Global { options, written };
        }
    }

    fn resource(&mut self, cursor: &mut Cursor<'_>, span: Span, files: &SourceMap, sink: &mut Sink) {
        let Some(name) = cursor.take_name("a resource name", sink) else {
            cursor.take_rest();
            return;
        };
        let Some(block) = cursor.expect_body("resource NAME", sink) else { return };
        let draft = resource::read(name, span, block, files, sink);
        self.once.claim(&format!("resource '{}'", draft.name), span, sink);
        self.resources.push(draft);
    }

    /// Brings all together, once all is read: `common` may stand behind what it affects (C42).
    fn finish(self, files: &SourceMap, sink: &mut Sink) -> Resolved {
        let common = self.common.map(|draft| draft.sections);
        let mut conflicts = Conflicts::default();
        let mut resolved = Resolved { global: self.global, ..Resolved::default() };
        for draft in self.resources {
            if let Some(reason) = draft.unsupported {
                resolved.unsupported.push(Unsupported { resource: draft.name, reason });
                continue;
            }
            let hosts = merge::hosts(&draft, sink);
            conflicts.add(&draft.name, &hosts, sink);
            resolved.resources.push(build::resource(draft, hosts, common.as_ref(), files, sink));
        }
        build::resync_after(&mut resolved.resources, sink);
        resolved.common = common;
        resolved
    }
}

/// `require-drbd-module-version-ge 8.4.0;` (C34).
fn require_version(word: &Word, cursor: &mut Cursor<'_>, sink: &mut Sink) {
    let operator = word.text.rsplit('-').next().unwrap_or_default();
    let Some(version) = cursor.take_text("a version", sink) else { return };
    cursor.expect_no_body(sink);
    let parts: Vec<Option<u32>> = version.text.split('.').map(|part| part.parse().ok()).collect();
    let [Some(major), Some(minor), Some(patch)] = parts[..] else {
        sink.error(version.span, format!("'{}' is not a version such as 8.4.11", version.text));
        return;
    };
    let order = EMULATED_VERSION.cmp(&(major, minor, patch));
    let holds = match operator {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "gt" => order.is_gt(),
        "ge" => order.is_ge(),
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        _ => {
            let operators = ["eq", "ne", "gt", "ge", "lt", "le"];
            let hint = nearest(operator, operators).map(|near| format!("; did you mean '{near}'?"));
            let hint = hint.unwrap_or_default();
            sink.error(word.span, format!("unknown comparison '{operator}'{hint}"));
            return;
        }
    };
    if !holds {
        let (major, minor, patch) = EMULATED_VERSION;
        let text = &version.text;
        sink.error(
            word.span,
            format!("required: version {operator} {text}, but urbd stands for {major}.{minor}.{patch}"),
        );
    }
}
