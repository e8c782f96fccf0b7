//! Scenarios in which urbd does not do as the kernels did, and why.

/// Scenario and reason. A scenario that agrees must not be on this list.
pub const NOT_YET: &[(&str, &str)] = &[];

/// The excuse of a scenario.
pub fn not_yet(id: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(excused, _)| *excused == id).map(|(_, reason)| *reason)
}
