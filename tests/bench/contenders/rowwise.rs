//! Contenders that look at one row after the other and keep what they found in columns: regex engines and
//! hand-written Rust.

use crate::answers::Answer;
use crate::measure::Contender;
use crate::patterns::ROUTES;
use crate::rows::{Data, Rows};

/// Where a field begins and ends in its row.
pub type Span = (u32, u32);

/// What is kept of a batch.
#[derive(Default)]
pub struct Kept {
    /// The rows left, ascending.
    pub rows: Vec<u32>,
    /// Row numbers by place, where a workload routes.
    pub routed: [Vec<u32>; ROUTES],
    /// By row left, so many for each.
    pub fields: Vec<Span>,
    /// By row left, behind the other fields.
    pub numbers: Vec<i64>,
    /// By row left, milliseconds since 1970 UTC.
    pub times: Vec<i64>,
    /// By row left, behind the other fields.
    pub hosts: Vec<&'static str>,
}

impl Kept {
    fn clear(&mut self) {
        self.rows.clear();
        self.routed.iter_mut().for_each(Vec::clear);
        self.fields.clear();
        self.numbers.clear();
        self.times.clear();
        self.hosts.clear();
    }

    fn answers(&self, batch: usize, rows: &Rows) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::with_capacity(self.rows.len());
        let stride = self.fields.len().checked_div(self.rows.len()).unwrap_or(0);
        for (index, &row) in self.rows.iter().enumerate() {
            let text = rows.row(row as usize);
            let spans = self.fields[index * stride..][..stride].iter();
            let mut fields: Vec<Vec<u8>> =
                spans.map(|&(start, end)| text[start as usize..end as usize].to_vec()).collect();
            fields.extend(self.numbers.get(index).map(|number| number.to_string().into_bytes()));
            fields.extend(self.hosts.get(index).map(|host| host.as_bytes().to_vec()));
            answers.push(Answer { batch, row, route: 0, time_ms: self.times.get(index).copied(), fields });
        }
        for (route, routed) in self.routed.iter().enumerate() {
            for row in routed {
                let index = self.rows.binary_search(row).expect("a row that is routed is left");
                answers[index].route = route;
            }
        }
        answers
    }
}

/// Runs a closure over (row, its number, what is kept).
struct Rowwise<'d, F> {
    data: &'d Data,
    kept: Vec<Kept>,
    work: F,
}

pub fn rowwise<'d>(data: &'d Data, work: impl FnMut(&[u8], u32, &mut Kept) + 'd) -> Box<dyn Contender + 'd> {
    let kept = data.batches.iter().map(|_| Kept::default()).collect();
    Box::new(Rowwise { data, kept, work })
}

impl<F: FnMut(&[u8], u32, &mut Kept)> Contender for Rowwise<'_, F> {
    fn prepare(&mut self) {
        self.kept.iter_mut().for_each(Kept::clear);
    }

    fn run(&mut self) {
        for (rows, kept) in self.data.batches.iter().zip(&mut self.kept) {
            for row in 0..rows.spans.len() {
                (self.work)(rows.row(row), row as u32, kept);
            }
        }
    }

    fn answers(&self) -> Vec<Answer> {
        let batches = self.kept.iter().zip(&self.data.batches).enumerate();
        batches.flat_map(|(batch, (kept, rows))| kept.answers(batch, rows)).collect()
    }
}
