//! The table of codes: one line each. A code without its page in `explain/` does not compile, a code given twice
//! does not compile, and after a release a number is never used again.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Severity;

/// A diagnostic code such as `F0101`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the table says of a code.
pub struct CodeEntry {
    pub code: Code,
    pub name: &'static str,
    pub severity: Severity,
    /// The rule in one line, as `flowc explain` lists it.
    pub summary: &'static str,
    /// The explain page: what, why, a wrong and a right example, in markdown.
    pub page: &'static str,
}

macro_rules! codes {
    ($($name:ident $number:literal $severity:ident $summary:literal;)*) => {
        impl Code {
            $(pub const $name: Code = Code($number);)*
        }
        const ENTRIES: &[CodeEntry] = &[
            $(CodeEntry {
                code: Code($number),
                name: stringify!($name),
                severity: Severity::$severity,
                summary: $summary,
                page: include_str!(concat!("../explain/", stringify!($name), ".md")),
            },)*
        ];
    };
}

/// All codes in order.
pub fn all_codes() -> &'static [CodeEntry] {
    ENTRIES
}

/// The entry of a code; every [`Code`] comes from the table, so there is one.
pub fn code_entry(code: Code) -> &'static CodeEntry {
    let index = ENTRIES.binary_search_by_key(&code, |entry| entry.code);
    &ENTRIES[index.expect("the table is in order and holds every code")]
}

impl Code {
    /// The code with this name (`F0101`, also in lower case).
    pub fn parse(name: &str) -> Option<Code> {
        ENTRIES.iter().find(|entry| entry.name.eq_ignore_ascii_case(name)).map(|entry| entry.code)
    }
}

codes! {
    F0001 1 Error "this statement is not finished / expected {one noun}, found `x`";
    F0002 2 Error "unknown declaration `soruce`";
    F0003 3 Error "`{` is never closed / `)` closes nothing / `}` does not close `[`";
    F0004 4 Error "this arrow points at nothing";
    F0005 5 Error "unexpected `x`: the statement should have ended before this";
    F0006 6 Error "settings use `:` / missing `:` in a setting";
    F0007 7 Error "`in` is a word of the language and cannot be a name here";
    F0008 8 Error "names cannot contain `-`";
    F0009 9 Error "`=>` is not the flow arrow";
    F0010 10 Error "a case cannot start with the name `warn`";
    F0011 11 Error "missing `=` after the name";
    F0012 12 Warning "`;` is not needed";
    F0013 13 Error "`else` cannot start a line";
    F0014 14 Error "typographic quotes";
    F0015 15 Error "this string is not closed";
    F0016 16 Error "this regex is not closed";
    F0017 17 Error "`&&` is written `and`";
    F0018 18 Error "`let mut` is not needed";
    F0019 19 Error "unknown escape `\\d` in a string";
    F0020 20 Error "`$name` is not interpolated";
    F0021 21 Error "nothing between `${` and `}`";
    F0022 22 Error "two statements on one line";
    F0023 23 Error "nesting deeper than 200";
    F0024 24 Error "this file is not UTF-8";
    F0025 25 Warning "invisible character (no-break space, zero width, bidi)";
    F0030 30 Error "`input { … }` is a Logstash section, not Flow";
    F0031 31 Error "this is a Flume property, not Flow";
    F0032 32 Error "this looks like YAML / TOML / Vector";
    F0101 101 Error "nothing is named `buff`";
    F0102 102 Error "there is no {sink} kind `hdsf`";
    F0103 103 Error "`out` is declared twice";
    F0104 104 Error "`scrub` has nothing named `tdiy`";
    F0105 105 Error "cannot find `lib/scrub.flow`";
    F0106 106 Error "files import each other in a circle";
    F0107 107 Warning "`x` hides the {source} `x` declared outside";
    F0108 108 Warning "import `scrub` is not used";
    F0109 109 Error "`buf` is inside agent `web` and cannot be reached from `col`";
    F0110 110 Error "`end` means both the choice `end` of `from` and the parameter `end`";
    F0111 111 Error "`hdfs` is a sink kind but a source is declared";
    F0112 112 Warning "parameter / function / type `x` is never used";
    F0113 113 Error "unknown setting `capcity` of channel kind `memory`";
    F0114 114 Error "setting `path` is given twice";
    F0115 115 Error "`elasticsearch` needs `index`";
    F0116 116 Error "this build has no `hdfs` kind";
    F0201 201 Error "`capacity` is a whole number, this is a duration";
    F0202 202 Error "cannot compare a string with an int";
    F0203 203 Error "unknown unit `mins`";
    F0204 204 Error "`5m`: minutes or milliseconds?";
    F0205 205 Error "`80` needs a unit here";
    F0206 206 Error "`batch` must be between 1 and 100_000, this is 0";
    F0207 207 Error "`from: begining`: not one of `start`, `end`, `saved`";
    F0208 208 Error "`Order` has no field `totl`";
    F0209 209 Error "this may be null";
    F0210 210 Error "`mask_cards` takes 1 argument, 2 given";
    F0211 211 Error "an `if` used as a value needs `else`";
    F0212 212 Error "`return` gives int, the function says bool";
    F0213 213 Advice "this can fail and nothing says what then";
    F0214 214 Error "parameters cannot be assigned";
    F0215 215 Error "functions may not call themselves";
    F0216 216 Warning "this condition is always true";
    F0217 217 Warning "code after `drop` is never reached";
    F0218 218 Error "`pw` is secret and would be readable here";
    F0219 219 Error "the date 2026-02-30 does not exist";
    F0220 220 Error "`where` refuses `prod2` for parameter `env`";
    F0221 221 Error "parameter `env` has no value";
    F0301 301 Error "this regex does not compile: unclosed group";
    F0302 302 Error "look-around / back-reference is not supported";
    F0303 303 Error "the pattern has no group `ip`";
    F0304 304 Warning "this regex matches everything / nothing";
    F0305 305 Warning "`.` in `example.com` matches any character";
    F0306 306 Warning "unanchored pattern on a field that is compared whole";
    F0307 307 Error "unknown time format `%q`";
    F0308 308 Warning "the path changes every second: 86,400 files a day";
    F0309 309 Error "`header.hots` is never set before this point";
    F0310 310 Warning "regex needs 38 MB of automaton";
    F0401 401 Error "source `web` flows nowhere";
    F0402 402 Warning "nothing reaches sink `lake`";
    F0403 403 Error "channel `buf` is filled but never drained";
    F0404 404 Error "`lake` is a sink: nothing can flow out of it";
    F0405 405 Warning "channel `spare` is not used";
    F0406 406 Warning "topic `orders` is written but nobody reads it here";
    F0407 407 Warning "failures of `parse` go to the default dead-letter store";
    F0408 408 Error "a memory channel gives each event to one reader, two are listed";
    F0409 409 Error "channel into channel only copies";
    F0410 410 Advice "this unnamed part keeps state on disk";
    F0411 411 Error "sink `lake` is fed by `a` and by `b`";
    F0412 412 Error "sink `s` belongs to two groups";
    F0413 413 Error "a group of one does nothing";
    F0414 414 Error "group `near` contains itself";
    F0415 415 Error "`stamp` is an interceptor and cannot start a chain";
    F0416 416 Warning "`a -> b` is written twice: every event would arrive twice";
    F0420 420 Error "events would go round for ever: a → b → c → a";
    F0421 421 Warning "a loop through topic `retry` has no end";
    F0422 422 Error "`web` can reach `lake` only through optional branches";
    F0501 501 Error "no `else`: events that match no case would be lost";
    F0502 502 Error "the case `\"200\"` appears twice";
    F0503 503 Warning "this case is never reached: the one above takes everything it takes";
    F0504 504 Warning "cases overlap: `/^5/` and `500..599`";
    F0505 505 Error "`else` must be last";
    F0506 506 Error "`header.status` is text, the case is a number";
    F0507 507 Warning "`route` with one case is a filter";
    F0508 508 Warning "header `type` is set by nothing upstream: only `else` can match";
    F0509 509 Error "range `599..500` is empty";
    F0601 601 Error "`deliver at_least_once` cannot hold: `buf` keeps events in memory only";
    F0602 602 Error "… : source `udp` cannot ask for a packet again";
    F0603 603 Error "… : sink `pager` does not confirm";
    F0604 604 Error "`effectively_once` needs an idempotent or transactional sink";
    F0605 605 Error "`batch` 5_000 is larger than `capacity` 1_000 of `buf` (Flume: transactionCapacity > capacity)";
    F0606 606 Error "sink takes 10_000 at once, channel `buf` hands out at most 1_000";
    F0607 607 Warning "`buf` holds 4 s of `web` at the given rate; the sink's time-out is 30 s";
    F0608 608 Warning "memory channels may need 6 GiB, the host has 4";
    F0609 609 Warning "interceptor between channel and sink changes events inside a transaction: they are computed again on retry";
    F0610 610 Warning "retention 1h is shorter than the failover wait 2h";
    F0611 611 Warning "`optional` branch `c?` carries the only copy of …";
    F0612 612 Error "two file channels share the directory `/var/lib/flow`";
    F0701 701 Error "replication 3 needs 3 brokers, `events` has 2";
    F0702 702 Warning "4 coordinators tolerate as many losses as 3";
    F0703 703 Error "`min_in_sync` 3 with replication 3 stops at the first broker loss";
    F0704 704 Error "`collector` runs on 2 hosts: which one?";
    F0705 705 Error "`compact` needs `key`";
    F0706 706 Warning "key `header.host` may be null: those events share one partition";
    F0707 707 Error "topic `x` is on no cluster";
    F0708 708 Error "two consumers named `billing` read `orders` in different flows";
    F0709 709 Warning "`workers` 8, partitions 6: two will be idle";
    F0710 710 Error "partitions cannot be lowered from 12 to 6";
    F0712 712 Error "`data` belongs to an embedded cluster or ensemble; this one is external";
    F0714 714 Error "client and server want the same port 2181 on `k1`";
    F0715 715 Warning "session 1s is shorter than two ticks (4s)";
    F0800 800 Error "a part cannot start";
    F0801 801 Error "port 4141 on `col-a` is used by `inbox` and by `admin`";
    F0802 802 Error "port 8080 is taken by another process (pid, name)";
    F0803 803 Error "ports below 1024 need a capability";
    F0804 804 Error "cannot read `/var/log/x`: permission denied for user flow";
    F0805 805 Warning "`/var/log/nginx/*.log` matches no file now";
    F0806 806 Error "directory `/var/lib/flow` is on a read-only / full disk";
    F0811 811 Error "another flowc (pid 4711) already owns `/var/lib/flow/buf`";
    F0812 812 Error "no part of this file runs on host `laptop`";
    F0813 813 Error "state in `/var/lib/flow` was written by a newer flowc";
    F0901 901 Error "a secret is missing, empty or readable by others";
    F0902 902 Warning "a password is written in the file";
    F0903 903 Warning "listens on all addresses without TLS";
    F0904 904 Warning "`exec` runs as root";
    F1001 1001 Error "test sends to `buf`, which is not a source";
    F1002 1002 Error "test expects at `web`, which is not a sink";
    F1103 1103 Warning "removed in the next release";
    F1104 1104 Warning "this allow allows nothing";
    F1106 1106 Advice "this file is not formatted";
    F1109 1109 Error "internal error: please report";
}
