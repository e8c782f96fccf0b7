//! Somebody else's load: fio writes through NBD and verifies, while the Secondary dies and comes back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::chance::Chance;
use super::life::Life;
use crate::harness::Lab;
use crate::harness::lab::poll;

/// How long a pass of fio may take.
const FIO_LIMIT: Duration = Duration::from_secs(100);
/// Written between two kills, at most.
const KIB: u64 = 6 << 10;
/// Two jobs, each with a part of the device of its own.
const JOBS: usize = 2;
const JOB_MIB: usize = 8;

/// Leads a round on a pair that is well, with the first side as Primary, to its verified end; how many MiB fio wrote.
pub(crate) fn lead(lab: &Lab, life: &mut Life<'_>, socket: &Path, mut chance: Chance) -> u64 {
    let seed = chance.below(1 << 30);
    life.chance = chance;
    let mut fio =
        Fio::start(lab, socket, "load", &format!("rw=randwrite\nrandseed={seed}\nloops=2\nfsync=64\n"));
    let second = life.secondary();
    for kill in 0..2 {
        fio.await_written(life);
        if kill > 0 && fio.has_ended() {
            break;
        }
        life.kill(second);
        if life.chance.one_in(2) {
            fio.await_written(life);
        }
        life.revive(second);
        life.await_resync(second);
    }
    let written = fio.finish();
    life.await_sync();
    // Blocks in their order, whatever the order they were written in.
    let read = Fio::start(lab, socket, "pass", "rw=read\n").finish();
    assert_eq!(read, [0, JOBS as u64 * JOB_MIB as u64], "a pass over all that was written");
    life.compare();
    life.tally.verified += 1;
    written[0]
}

/// fio at work.
struct Fio {
    process: Child,
    report: PathBuf,
}

impl Fio {
    fn start(lab: &Lab, socket: &Path, name: &str, work: &str) -> Self {
        let (jobs, report) = (lab.file(&format!("{name}.fio")), lab.file(&format!("{name}.json")));
        let text = format!(
            "[global]\nioengine=nbd\nuri=nbd+unix:///r0?socket={}\nthread=1\niodepth=16\nbs=4k\n\
             verify=crc32c\ndo_verify=1\nverify_fatal=1\n\
             {work}\n[job]\nnumjobs={JOBS}\nsize={JOB_MIB}m\noffset_increment={JOB_MIB}m\n",
            socket.display()
        );
        std::fs::write(&jobs, text).unwrap();
        let process = Command::new("fio")
            .args(["--output-format=json", "--output"])
            .arg(&report)
            .arg(format!("--aux-path={}", jobs.parent().unwrap().display()))
            .arg(&jobs)
            .stdin(Stdio::null())
            .spawn()
            .expect("fio is installed by tools/setup.sh");
        Self { process, report }
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Waits until the Primary's disk has got some more, or fio has ended.
    fn await_written(&mut self, life: &mut Life<'_>) {
        let more = 1 + life.chance.below(KIB);
        let begin = life.written_kib();
        poll(
            FIO_LIMIT,
            || (self.has_ended() || life.written_kib() >= begin + more).then_some(()),
            || format!("fio does not write {more} KiB"),
        );
        life.chance.spin(Duration::from_millis(2));
    }

    /// Waits for its end, without any error; how many MiB were written, and how many read.
    fn finish(mut self) -> [u64; 2] {
        let status = poll(
            FIO_LIMIT,
            || self.process.try_wait().unwrap(),
            || format!("fio does not end: {}", self.report.display()),
        );
        let text = std::fs::read_to_string(&self.report).unwrap_or_default();
        assert!(status.success(), "fio: {status}\n{text}");
        // Notes of fio's come before what was asked for.
        let report = text.find('{').map_or("", |at| &text[at..]);
        let report: serde_json::Value =
            serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {text}"));
        let jobs = report["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), JOBS);
        assert!(jobs.iter().all(|job| job["error"] == 0), "{text}");
        let sum =
            |kind: &str| jobs.iter().map(|job| job[kind]["io_bytes"].as_u64().unwrap()).sum::<u64>() >> 20;
        let (read, written) = (sum("read"), sum("write"));
        if written > 0 {
            assert_eq!(read, written, "all that was written is verified");
        }
        [written, read]
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
