//! The table of a workload, with what is asked of ours beside it.

use crate::measure::Found;
use crate::rows::Data;
use crate::workloads::Workload;

pub fn print(workload: &Workload, data: &Data, found: &[Found]) {
    let events = data.events();
    let Some(first) = found.first() else { return };
    println!(
        "\n{}: {}\n  {events} events of {:.0} bytes, {} left, {} rounds, answers {:016x}",
        workload.name,
        workload.title,
        data.bytes() as f64 / events as f64 - 1.0,
        first.rows,
        first.ns.len(),
        first.hash,
    );
    let bases: Vec<&Found> =
        workload.bases.iter().filter_map(|base| found.iter().find(|one| one.name == *base)).collect();
    let heads: String = bases.iter().map(|base| format!(" {:>13}", format!("x {}", base.name))).collect();
    println!("  {:24} {:>10} {:>10}{heads}", "ns per event", "median", "least");
    for one in found {
        let speeds: String = bases.iter().map(|base| format!(" {:>13.2}", one.speed(base))).collect();
        println!("  {:24} {:>10.1} {:>10.1}{speeds}", one.name, one.median(), one.least());
    }
    for one in found {
        one.notes.iter().for_each(|note| println!("  {:24} {note}", one.name));
    }
    for ours in found.iter().filter(|one| one.name.starts_with("ours")) {
        for target in workload.targets {
            let Some(other) = found.iter().find(|one| one.name == target.than) else { continue };
            let speed = ours.speed(other);
            println!(
                "  {:24} {} x {:.1} of {}: x {speed:.2}, {}",
                ours.name,
                target.word,
                target.times,
                target.than,
                verdict(speed >= target.times),
            );
        }
    }
}

pub fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}
