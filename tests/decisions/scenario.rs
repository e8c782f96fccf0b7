//! The recorded lines.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

/// One line.
#[derive(Deserialize)]
pub struct Scenario {
    pub id: String,
    pub config: Config,
    pub trace: Vec<Recorded>,
    pub data: BTreeMap<String, Block>,
}

impl Scenario {
    /// The first part of the name.
    pub fn group(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

/// What went into the resource file.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Config {
    pub net: String,
    pub net_boole: String,
    pub net_cardan: String,
    pub disk: String,
    pub options: String,
    pub protocol: Option<String>,
    pub resync_rate: Option<String>,
    pub handler_exit: BTreeMap<String, i32>,
}

/// A step, and what was seen after it.
#[derive(Deserialize)]
pub struct Recorded {
    pub step: Step,
    #[serde(default)]
    any: Vec<After>,
    #[serde(flatten)]
    only: After,
}

impl Recorded {
    /// What may be seen.
    pub fn alternatives(&self) -> Vec<&After> {
        if self.any.is_empty() { vec![&self.only] } else { self.any.iter().collect() }
    }
}

/// What was seen.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct After {
    pub rc: Value,
    pub a: Option<String>,
    pub b: Option<String>,
    pub gi_a: Option<String>,
    pub gi_b: Option<String>,
    pub handlers_a: Vec<String>,
    pub handlers_b: Vec<String>,
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
pub struct Block {
    #[serde(default)]
    any: Vec<Tags>,
    #[serde(flatten)]
    only: Tags,
}

impl Block {
    pub fn alternatives(&self) -> Vec<&Tags> {
        if self.any.is_empty() { vec![&self.only] } else { self.any.iter().collect() }
    }
}

#[derive(Deserialize, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Tags {
    pub a: String,
    pub b: String,
}

/// `[who, op, args…]`.
#[derive(Deserialize, Debug, Clone)]
pub struct Step(Vec<Value>);

impl Step {
    /// The nodes: 0 is boole, 1 is cardan.
    pub fn hosts(&self) -> Vec<usize> {
        self.0[0].as_str().unwrap().bytes().map(|who| usize::from(who - b'a')).collect()
    }

    pub fn op(&self) -> &str {
        self.0[1].as_str().unwrap()
    }

    pub fn text(&self, at: usize) -> &str {
        self.0.get(2 + at).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn number(&self, at: usize) -> u64 {
        self.0.get(2 + at).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The next step follows in the middle of the resync.
    pub fn is_nowait(&self) -> bool {
        self.0.last().and_then(Value::as_str) == Some("nowait")
    }
}

/// All lines.
pub fn scenarios() -> Vec<Scenario> {
    let packed: &[u8] = include_bytes!("../data/decisions.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.80}")))
        .collect()
}
