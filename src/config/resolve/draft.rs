//! What a resource's text says, before it is known to be complete.

use std::collections::BTreeMap;

use super::super::error::{Diagnostic, Sink};
use super::super::model::{Address, Device, HostKind, MetaDisk, Sections, Written};
use super::super::source::Span;

/// A value and the place where it was written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A `resource` or `common` section.
#[derive(Debug)]
pub(super) struct ResourceDraft {
    pub(super) name: String,
    /// Of the keyword.
    pub(super) span: Span,
    /// Of the opening brace.
    pub(super) open: Span,
    pub(super) sections: Sections,
    /// Statements outside of host sections: the hosts' defaults (C74).
    pub(super) volumes: VolumesDraft,
    pub(super) hosts: Vec<HostDraft>,
    /// Why urbd cannot run it.
    pub(super) unsupported: Option<String>,
    /// Sections and statements that may stand once only (C37).
    pub(super) once: Once,
}

impl ResourceDraft {
    /// Notes that urbd cannot run this resource, with a warning (C93 for stacked ones).
    pub(super) fn leave_out(&mut self, span: Span, why: &str, sink: &mut Sink) {
        sink.push(
            Diagnostic::warning(span, format!("resource '{}' is left out: {why}", self.name))
                .help("urbd runs resources of two nodes that are connected directly"),
        );
        self.unsupported.get_or_insert_with(|| why.to_owned());
    }
}

/// A host section.
#[derive(Clone, Debug)]
pub(super) struct HostDraft {
    pub(super) kind: HostKind,
    pub(super) names: Vec<String>,
    pub(super) span: Span,
    pub(super) address: Option<At<Address>>,
    pub(super) alternate_address: Option<At<Address>>,
    pub(super) volumes: VolumesDraft,
    pub(super) options: Vec<Written>,
    /// Whether a statement was not understood, so that what is missing may be just that.
    pub(super) broken: bool,
}

impl HostDraft {
    /// As in the text: `on alpha`.
    pub(super) fn label(&self) -> String {
        match (&self.kind, &self.address) {
            (HostKind::Named, _) => format!("on {}", self.names.join(" ")),
            (HostKind::Floating, Some(address)) => format!("floating {}", address.value.file_form()),
            (HostKind::Floating, None) => "floating".to_owned(),
        }
    }

    /// The nodes it stands for: its names, or the address in their place.
    pub(super) fn keys(&self) -> Vec<String> {
        match (&self.kind, &self.address) {
            (HostKind::Named, _) => self.names.clone(),
            (HostKind::Floating, Some(address)) => vec![address.value.text.clone()],
            (HostKind::Floating, None) => Vec::new(),
        }
    }
}

/// The volumes of a host or of a resource.
#[derive(Clone, Debug, Default)]
pub(super) struct VolumesDraft {
    /// Statements without the keyword `volume` (C75), and the first of them.
    pub(super) implicit: VolumeDraft,
    /// Those in `volume N { }`, with the place of the keyword.
    pub(super) explicit: BTreeMap<u16, (Span, VolumeDraft)>,
}

/// The statements of one volume.
#[derive(Clone, Debug, Default)]
pub(super) struct VolumeDraft {
    pub(super) device: Option<At<Device>>,
    /// `None` inside is `disk none`.
    pub(super) disk: Option<At<Option<String>>>,
    pub(super) meta: Option<At<MetaDisk>>,
    pub(super) options: Vec<Written>,
    pub(super) options_span: Option<Span>,
    /// Whether a statement was not understood.
    pub(super) broken: bool,
}

impl VolumeDraft {
    /// The first place with a statement of this volume; `None` if there is no statement.
    pub(super) fn first_span(&self) -> Option<Span> {
        [
            self.device.as_ref().map(|at| at.span),
            self.disk.as_ref().map(|at| at.span),
            self.meta.as_ref().map(|at| at.span),
            self.options_span,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Remembers what was given, and reports it when given again (C37).
#[derive(Debug, Default)]
pub(super) struct Once(BTreeMap<String, Span>);

impl Once {
    /// Notes `what` at `span`. False, with a message, if it was there already.
    pub(super) fn claim(&mut self, what: &str, span: Span, sink: &mut Sink) -> bool {
        match self.0.get(what) {
            None => {
                self.0.insert(what.to_owned(), span);
                true
            }
            Some(first) => {
                twice(what, *first, span, sink);
                false
            }
        }
    }
}

/// Reports that `what` is there twice.
pub(super) fn twice(what: &str, first: Span, again: Span, sink: &mut Sink) {
    sink.push(Diagnostic::error(again, format!("{what} is given twice")).note(first, "first given here"));
}

/// Keeps `value` unless there is one already, which is reported.
pub(super) fn put<T>(slot: &mut Option<At<T>>, what: &str, value: T, span: Span, sink: &mut Sink) {
    match slot {
        Some(first) => twice(what, first.span, span, sink),
        None => *slot = Some(At { value, span }),
    }
}
