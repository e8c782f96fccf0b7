//! The texts of the numbers in an outcome (S35, L13, L14).

/// The text of a refused state change (L13).
#[must_use]
pub const fn refusal_text(code: i32) -> &'static str {
    match code {
        -1 => "Multiple primaries not allowed by config",
        -2 => "Need access to UpToDate data",
        -4 => "Can not resync without local disk",
        -5 => "Can not resync without remote disk",
        -6 => "Refusing to be Outdated while Connected",
        -7 => "Refusing to be Primary while peer is not outdated",
        -8 => "Can not start OV/resync since it is already active",
        -9 => "Can not disconnect a StandAlone device",
        -10 => "State change was refused by peer node",
        -11 => "Device is diskless, the requested operation requires a disk",
        -12 => "Device is held open by someone",
        -13 => "Have no net/connection configuration",
        -14 => "Need a verify algorithm to start online verify",
        -15 => "Need a connection to start verify or resync",
        -16 => "Disk state is lower than outdated",
        -17 => "Peer does not support protocol",
        -18 => "In transient state, retry after next state change",
        -19 => "Concurrent state changes detected and aborted",
        -20 => "Other vol primary on peer not allowed by config",
        -21 => "Need a connection for a graceful disconnect/outdate peer",
        _ => "unknown error.",
    }
}

/// The text of a rejected request (L14, S35).
#[must_use]
pub const fn rejection_text(code: i32) -> &'static str {
    match code {
        102 => "Local address(port) already in use.",
        103 => "Remote address(port) already in use.",
        104 => "Can not open backing device.",
        105 => "Can not open meta device.",
        107 => "Lower device is not a block device.",
        108 => "Meta device is not a block device.",
        111 => "Low.dev. smaller than requested DRBD-dev. size.",
        112 => "Meta device too small.",
        114 => "Lower device is already claimed. This usually means it is mounted.",
        115 => "Meta device is already claimed. This usually means it is mounted.",
        116 => "Lower device / meta device / index combination invalid.",
        118 => "IO error(s) occurred during initial access to meta-data.",
        119 => "No valid meta-data signature found.\nMake one with: urbdadm create-md RESOURCE",
        120 => "The cram-hmac-alg is unknown.",
        121 => "The cram-hmac-alg is not a digest.",
        122 => "kmalloc() failed. Out of memory?",
        123 => "--discard-my-data not allowed when primary.",
        124 => "Device is attached to a disk (use detach first)",
        125 => "Device has a net-config (use disconnect first)",
        126 => "UnknownMandatoryTag",
        127 => "Device minor not allocated",
        129 => "Interrupted by Signal",
        130 => "Resize not allowed during resync.",
        131 => "Need one Primary node to resize.",
        132 => "The resync-after minor number is invalid",
        133 => "This would cause a resync-after dependency cycle",
        134 => "Sync-pause flag is already set",
        135 => "Sync-pause flag is already cleared",
        137 => "Kernel does not know how to handle your request.",
        138 => "Device does not have a disk-config",
        139 => "Protocol C required",
        140 => "vmalloc() failed. Out of memory?",
        141 => "The data-integrity-alg is unknown.",
        142 => "The data-integrity-alg is not a digest.",
        143 => "Invalid cpu-mask.",
        144 => "CSUMSAlgNotAvail",
        145 => "CSUMSAlgNotDigest",
        146 => "VERIFYAlgNotAvail",
        147 => "VERIFYAlgNotDigest",
        148 => "Can not change csums-alg while resync is in progress",
        149 => "Can not change verify-alg while online verify runs",
        150 => "Can only attach to the data we lost last (see the daemon's log).",
        151 => "Need to be StandAlone",
        152 => "Permission denied. CAP_SYS_ADMIN necessary",
        153 => "Protocol version 93 required to use --assume-clean",
        154 => "Fencing policy resource-and-stonith only with prot B or C allowed",
        155 => "on-congestion policy pull-ahead only with prot A allowed",
        156 => {
            "Sync-pause flag is already cleared. Note: Resync pause caused by a local resync-after dependency."
        }
        157 => "Sync-pause flag is already cleared. Note: Resync pause caused by the peer node.",
        158 => "Unknown resource",
        159 => "Resource still in use (delete all minors first)",
        160 => "Minor still configured (down it first)",
        161 => "Minor or volume exists already (delete it first)",
        162 => "Invalid configuration request",
        163 => "Prot version 100 required in order to change these network options while connected",
        164 => "Can not clear allow_two_primaries as long as there a primaries on both sides",
        165 => "Unclean meta-data found.\nYou need to 'urbdadm apply-al RESOURCE'",
        166 => "DRBD need to be connected for online MD layout change",
        167 => "Resulting AL area too big",
        168 => "Resulting AL are too small",
        169 => "Resulting AL does not fit into available meta data space",
        170 => "Implicit device shrinking not allowed. See the daemon's log.",
        _ => "unknown error.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_a_daemon_may_answer_has_a_text_of_its_own() {
        const UNUSED: [i32; 11] = [106, 109, 110, 113, 117, 128, 136, -3, 0, 1, 1];
        for code in (102..=170).filter(|code| !UNUSED.contains(code)) {
            assert_ne!(rejection_text(code), "unknown error.", "{code}");
        }
        for code in (-21..=-1).filter(|code| !UNUSED.contains(code)) {
            assert_ne!(refusal_text(code), "unknown error.", "{code}");
        }
    }
}
