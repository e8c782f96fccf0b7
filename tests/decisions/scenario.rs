//! The recorded lines.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

/// One line.
#[derive(Deserialize)]
pub(crate) struct Scenario {
    pub(crate) id: String,
    pub(crate) config: Config,
    pub(crate) trace: Vec<Recorded>,
    pub(crate) data: BTreeMap<String, Block>,
}

impl Scenario {
    /// The first part of the name.
    pub(crate) fn group(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

/// What went into the resource file.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) net: String,
    pub(crate) net_boole: String,
    pub(crate) net_cardan: String,
    pub(crate) disk: String,
    pub(crate) options: String,
    pub(crate) protocol: Option<String>,
    pub(crate) resync_rate: Option<String>,
    pub(crate) handler_exit: BTreeMap<String, i32>,
}

/// A step, and what was seen after it.
#[derive(Deserialize)]
pub(crate) struct Recorded {
    pub(crate) step: Step,
    #[serde(default)]
    any: Vec<After>,
    #[serde(flatten)]
    only: After,
}

impl Recorded {
    /// What may be seen.
    pub(crate) fn alternatives(&self) -> Vec<&After> {
        if self.any.is_empty() { vec![&self.only] } else { self.any.iter().collect() }
    }
}

/// What was seen.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct After {
    pub(crate) rc: Value,
    pub(crate) a: Option<String>,
    pub(crate) b: Option<String>,
    pub(crate) gi_a: Option<String>,
    pub(crate) gi_b: Option<String>,
    pub(crate) handlers_a: Vec<String>,
    pub(crate) handlers_b: Vec<String>,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        write!(
            f,
            "{} | {} {} {:?} | {} {} {:?}",
            self.rc,
            text(&self.a),
            text(&self.gi_a),
            self.handlers_a,
            text(&self.b),
            text(&self.gi_b),
            self.handlers_b
        )
    }
}

/// What a block holds on both disks.
#[derive(Deserialize)]
pub(crate) struct Block {
    #[serde(default)]
    any: Vec<Tags>,
    #[serde(flatten)]
    only: Tags,
}

impl Block {
    pub(crate) fn alternatives(&self) -> Vec<&Tags> {
        if self.any.is_empty() { vec![&self.only] } else { self.any.iter().collect() }
    }
}

#[derive(Deserialize, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Tags {
    pub(crate) a: String,
    pub(crate) b: String,
}

/// `[who, op, args…]`.
#[derive(Deserialize, Debug, Clone)]
pub(crate) struct Step(Vec<Value>);

impl Step {
    /// The nodes: 0 is boole, 1 is cardan.
    pub(crate) fn hosts(&self) -> Vec<usize> {
        self.0[0].as_str().unwrap().bytes().map(|who| usize::from(who - b'a')).collect()
    }

    pub(crate) fn op(&self) -> &str {
        self.0[1].as_str().unwrap()
    }

    pub(crate) fn text(&self, at: usize) -> &str {
        self.0.get(2 + at).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, at: usize) -> u64 {
        self.0.get(2 + at).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The next step follows in the middle of the resync.
    pub(crate) fn is_nowait(&self) -> bool {
        self.0.last().and_then(Value::as_str) == Some("nowait")
    }
}

/// All lines.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let packed: &[u8] = include_bytes!("../data/decisions.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.80}")))
        .collect()
}
