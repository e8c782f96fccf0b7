//! Two daemons that replicate to each other on this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use assert_cmd::prelude::*;

use super::harness::{Daemon, LOCAL_ONLY, addresses};

const NAMES: [&str; 2] = ["boole", "cardan"];

/// A connected pair in sync; the first node is Primary.
pub struct Pair {
    nodes: [Daemon; 2],
    conf: PathBuf,
}

impl Pair {
    /// Makes metadata on both disks, and a pair of them. Everything else goes into `folder`.
    pub fn start(folder: &Path, disks: [&Path; 2]) -> Self {
        let conf = folder.join("r0.res");
        fs::write(&conf, configuration(disks, addresses())).unwrap();
        let pair = Self { nodes: NAMES.map(|name| Daemon::start(folder, name, LOCAL_ONLY)), conf };
        for words in ["create-md --force r0", "up r0", "wait-connect --timeout=60 r0"] {
            pair.nodes.iter().for_each(|node| {
                node.adm(&pair.conf, words).assert().success();
            });
        }
        for words in ["new-current-uuid --clear-bitmap r0", "primary r0"] {
            pair.nodes[0].adm(&pair.conf, words).assert().success();
        }
        pair.check();
        pair
    }

    /// The Primary's socket for NBD clients.
    pub fn nbd_socket(&self) -> PathBuf {
        self.nodes[0].nbd_sock()
    }

    /// The pair must be connected and in sync.
    pub fn check(&self) {
        for (words, wanted) in [("cstate r0", "Connected\n"), ("dstate r0", "UpToDate/UpToDate\n")] {
            self.nodes[0].adm(&self.conf, words).assert().success().stdout(wanted);
        }
    }

    /// Stops both daemons.
    pub fn stop(self) {
        self.nodes.into_iter().for_each(Daemon::stop);
    }
}

fn configuration(disks: [&Path; 2], addresses: [SocketAddr; 2]) -> String {
    let hosts = NAMES.into_iter().zip(disks).zip(addresses).map(|((name, disk), address)| {
        format!("    on {name} {{ disk \"{}\"; address {address}; }}\n", disk.display())
    });
    let hosts: String = hosts.collect();
    format!(
        "resource r0 {{\n\
         protocol C;\n\
         net {{ cram-hmac-alg sha1; shared-secret \"bench\"; }}\n\
         device minor 1;\n\
         meta-disk internal;\n\
         {hosts}}}\n"
    )
}
