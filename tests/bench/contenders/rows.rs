//! The rows: access log lines of about 196 bytes, dates, JSON lines; the same in every run.
//!
//! Of the access log 5 % are probes, 8 % of the others robots, 1 % have a blank in the URL that looks like the
//! protocol, and one line in 200 is cut off, so that it matches nothing.

#[path = "../../support/logs.rs"]
#[allow(dead_code, reason = "other targets need the rest")]
mod logs;

use std::fmt::Write as _;

use logs::{Logs, Random, Shape};

pub const BATCHES: usize = 8;
pub const ROWS: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Access,
    Dates,
    Json,
}

/// Rows in one text with a newline after each, as a source reads them.
pub struct Rows {
    pub text: String,
    /// Where each begins and ends, without its newline.
    pub spans: Vec<(u32, u32)>,
}

pub struct Data {
    pub batches: Vec<Rows>,
}

impl Data {
    pub fn of(kind: Kind) -> Data {
        let batches = (0..BATCHES as u64).map(|batch| Rows::make(kind, 1_000 + batch)).collect();
        Data { batches }
    }

    pub fn events(&self) -> usize {
        self.batches.iter().map(|rows| rows.spans.len()).sum()
    }

    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|rows| rows.text.len()).sum()
    }
}

impl Rows {
    fn make(kind: Kind, seed: u64) -> Rows {
        let mut random = Random::new(seed);
        let mut json = Logs::new(Shape::Json, seed);
        let mut rows = Rows { text: String::new(), spans: Vec::with_capacity(ROWS) };
        for _ in 0..ROWS {
            let start = rows.text.len();
            match kind {
                Kind::Access => access(&mut random, &mut rows.text),
                Kind::Dates => date(&mut random, &mut rows.text),
                Kind::Json => {
                    json.line(&mut rows.text);
                    rows.text.pop();
                }
            }
            if permille(&mut random, 5) {
                let len = rows.text.len() - start;
                rows.text.truncate(start + len * 2 / 3);
            }
            rows.spans.push((start as u32, rows.text.len() as u32));
            rows.text.push('\n');
        }
        rows
    }

    pub fn row(&self, row: usize) -> &[u8] {
        let (start, end) = self.spans[row];
        &self.text.as_bytes()[start as usize..end as usize]
    }
}

fn permille(random: &mut Random, chance: u64) -> bool {
    random.below(1_000) < chance
}

const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/128.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0 Edg/129.0",
    "Dalvik/2.1.0 (Linux; U; Android 14; SM-G991B Build/UP1A.231005.007)",
    "curl/8.9.1",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
];
const ROBOTS: &[&str] = &[
    "Mozilla/5.0 (compatible; ExampleBot/2.1; +http://www.bot.example/about.html)",
    "Mozilla/5.0 (compatible; otherbot/2.0; +http://other.example/bot.htm)",
    "Mozilla/5.0 (compatible; SiteCrawler/7.0; +http://crawl.example/robot/)",
    "Webspider+(+http://www.spider.example/search/spider.htm)",
];
const WORDS: &[&str] = &[
    "index", "home", "products", "cart", "checkout", "user", "account", "settings", "orders", "search",
    "blog", "2026", "post", "images", "gallery", "docs", "help", "faq", "about", "contact", "category",
    "garden", "books", "reviews", "item", "detail", "archive", "download", "file", "report",
];
const HOSTS: &[&str] = &[
    "www.example.com",
    "shop.example.net",
    "example.org",
    "news.example.edu",
    "search.test",
    "short.test",
    "blog.acme.test",
    "m.social.test",
];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ZONES: &[&str] = &["+0000", "+0000", "+0200", "-0500", "+0530"];

fn date(random: &mut Random, out: &mut String) {
    let mut below = |bound| random.below(bound);
    let (day, month, year) = (1 + below(28), MONTHS[below(12) as usize], 2020 + below(7));
    let (hour, minute, second) = (below(24), below(60), below(60));
    let zone = random.pick(ZONES);
    let _ = write!(out, "{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} {zone}");
}

fn access(random: &mut Random, out: &mut String) {
    let probe = permille(random, 50);
    let net = if permille(random, 100) { 10 } else { 11 + random.below(240) };
    let _ = write!(out, "{net}.{}.{}.{} - ", random.below(256), random.below(256), random.below(256));
    if permille(random, 150) {
        let user = random.pick(&["alice", "bob", "carol", "svc-api", "admin"]);
        let _ = write!(out, "{user}{}", random.below(1_000));
    } else {
        out.push('-');
    }
    out.push_str(" [");
    date(random, out);
    out.push_str("] \"");
    let protocol = if permille(random, 300) { "HTTP/2.0" } else { "HTTP/1.1" };
    if probe {
        let path = random.pick(&["/health", "/healthz", "/health/ready", "/live"]);
        let _ = write!(out, "GET {path} {protocol}\" 200 {} \"-\" \"", random.below(40));
        if permille(random, 800) {
            let _ = write!(out, "kube-probe/1.{}\"", 25 + random.below(7));
        } else {
            out.push_str("ELB-HealthChecker/2.0\"");
        }
        return;
    }
    out.push_str(random.pick(&["GET", "GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE"]));
    out.push(' ');
    path(random, out);
    let status = status(random);
    let _ = write!(out, " {protocol}\" {status} ");
    if status == 304 || status == 204 || permille(random, 10) {
        out.push('-');
    } else {
        let shift = 44 + random.below(18);
        let _ = write!(out, "{}", random.next() >> shift);
    }
    if permille(random, 300) {
        out.push_str(" \"-\" \"");
    } else {
        let scheme = random.pick(&["http", "https", "https", "https"]);
        let _ = write!(out, " \"{scheme}://{}/{}", random.pick(HOSTS), random.pick(WORDS));
        for _ in 0..random.below(3) {
            let _ = write!(out, "/{}", random.pick(WORDS));
        }
        out.push_str("\" \"");
    }
    out.push_str(if permille(random, 80) { random.pick(ROBOTS) } else { random.pick(AGENTS) });
    out.push('"');
}

fn path(random: &mut Random, out: &mut String) {
    match random.below(100) {
        0..=11 => {
            let _ =
                write!(out, "/api/v{}/{}/{}", 1 + random.below(3), random.pick(WORDS), random.below(100_000));
        }
        12..=25 => {
            let folder = random.pick(&["/static/", "/assets/", "/dist/"]);
            let kind = random.pick(&["css", "js", "png", "jpg", "svg", "woff2"]);
            let _ = write!(out, "{folder}{}/{}.{kind}", random.pick(WORDS), random.pick(WORDS));
        }
        26..=30 => out.push_str(random.pick(&["/login", "/logout", "/oauth/token", "/oauth/authorize"])),
        _ => {
            for _ in 0..1 + random.below(4) {
                let _ = write!(out, "/{}", random.pick(WORDS));
            }
        }
    }
    if permille(random, 450) {
        let _ = write!(out, "?{}={}", random.pick(WORDS), random.below(1_000_000));
        for _ in 0..random.below(3) {
            let shift = random.below(40);
            let _ = write!(out, "&{}={:x}", random.pick(WORDS), random.next() >> shift);
        }
    }
    if permille(random, 10) {
        out.push_str(" HTTP/x y");
    }
}

fn status(random: &mut Random) -> u64 {
    let codes: &[u64] = match random.below(100) {
        0..=79 => &[200, 200, 200, 201, 204, 206],
        80..=86 => &[301, 302, 304],
        87..=94 => &[400, 401, 403, 404, 404, 404, 429],
        _ => &[500, 502, 503, 504],
    };
    codes[random.below(codes.len() as u64) as usize]
}
