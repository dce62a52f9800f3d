//! Rows taken out of columns, or put between others.

use std::sync::Arc;

use crate::batch::{ArenaFull, Batch, Columns, Range, Slot};

/// A copy of some rows in columns of their own, so that they hold nothing of the others.
pub(super) fn gather(from: &Columns, rows: &[u32]) -> Result<Columns, ArenaFull> {
    let mut to = Columns { source: from.source.clone(), first_id: from.first_id, ..Columns::default() };
    for &row in rows {
        let at = row as usize;
        let body = from.bodies[at];
        let text = from.arena.get(body);
        let copied = to.push(text.unwrap_or(&[]), from.times[at])?;
        to.ids.truncate(copied as usize);
        to.ids.push(from.event_id(row));
        let new_body = to.bodies[copied as usize];
        // Pieces of the body stay pieces of the body. One that lies beyond the arena has none.
        let place = |to: &mut Columns, range: Range| {
            let inside = text.is_some()
                && range.start >= body.start
                && u64::from(range.start) + u64::from(range.len)
                    <= u64::from(body.start) + u64::from(body.len);
            if inside {
                return Ok(Some(Range {
                    start: new_body.start + (range.start - body.start),
                    len: range.len,
                }));
            }
            from.arena.get(range).map(|bytes| to.arena.push(bytes)).transpose()
        };
        for (slot, column) in from.headers.iter().enumerate() {
            let Some(range) = column.get(at).filter(|range| !range.is_absent()) else { continue };
            if let Some(range) = place(&mut to, *range)? {
                to.set_header(copied, Slot(slot as u32), range);
            }
        }
        let side = from.side.get(at).map(Vec::as_slice).unwrap_or(&[]);
        if !side.is_empty() {
            let mut headers = Vec::with_capacity(side.len());
            for (name, range) in side {
                if let Some(range) = place(&mut to, *range)? {
                    headers.push((name.clone(), range));
                }
            }
            if to.side.is_empty() {
                to.side.resize_with(to.bodies.len(), Vec::new);
            }
            to.side[copied as usize] = headers;
        }
    }
    Ok(to)
}

/// Puts the rows of the columns into a new order; the arena stays. `order` names each row at most a few times.
pub(super) fn reorder(columns: &mut Columns, order: &[u32]) {
    let ids = order.iter().map(|&row| columns.event_id(row)).collect();
    columns.ids = ids;
    columns.bodies = order.iter().map(|&row| columns.bodies[row as usize]).collect();
    columns.times = order.iter().map(|&row| columns.times[row as usize]).collect();
    for column in columns.headers.iter_mut().filter(|column| !column.is_empty()) {
        *column = order.iter().map(|&row| column[row as usize]).collect();
    }
    if !columns.side.is_empty() {
        columns.side = order.iter().map(|&row| columns.side[row as usize].clone()).collect();
    }
}

/// Whether all columns are as long as the bodies, and the selection names rows that exist.
pub(crate) fn consistent(batch: &Batch) -> bool {
    let columns = &*batch.columns;
    let rows = columns.bodies.len();
    columns.times.len() == rows
        && columns.headers.iter().all(|column| column.is_empty() || column.len() == rows)
        && (columns.side.is_empty() || columns.side.len() == rows)
        && (columns.ids.is_empty() || columns.ids.len() == rows)
        && batch.rows.iter().all(|&row| (row as usize) < rows)
}

/// Columns of a shared batch for writing.
pub(super) fn columns_mut(columns: &mut Arc<Columns>) -> &mut Columns {
    Arc::make_mut(columns)
}

/// The column of a slot for writing a value; none when the value is absent and so is the whole column.
pub(super) fn column_for(columns: &mut Columns, slot: Slot, value: Range) -> Option<&mut Vec<Range>> {
    let absent = columns.headers.get(slot.0 as usize).is_none_or(Vec::is_empty);
    if absent && value.is_absent() { None } else { Some(columns.column_mut(slot)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers written after a body that lies beyond the arena became bytes of other rows: they were taken for
    /// pieces of that body, which has none.
    #[test]
    fn headers_of_a_row_whose_body_is_beyond_the_arena_keep_their_texts() {
        let mut from = Columns::default();
        from.push(b"a line of another row", 0).unwrap();
        let beyond = Range { start: from.arena.len() as u32 + 4, len: 4_000 };
        from.push_range(beyond, 0);
        from.arena.push(b"fill").unwrap();
        let host = from.arena.push(b"web-1").unwrap();
        from.set_header(1, Slot(0), host);
        let to = gather(&from, &[0, 1]).unwrap();
        assert_eq!(to.arena.get(to.bodies[1]), Some(&b""[..]));
        assert_eq!(to.arena.get(to.headers[0][1]), Some(&b"web-1"[..]));
    }
}
