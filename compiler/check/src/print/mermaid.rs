//! The picture for Mermaid, as GitHub and many wikis draw it.

use super::drawing::{Shape, Vertex, drawing};
use crate::model::Model;

/// `flowc graph --format mermaid`
pub fn graph_mermaid(model: &Model) -> String {
    let drawing = drawing(model);
    let mut out = String::from("flowchart LR\n");
    for (agent, title) in drawing.agents.iter().enumerate() {
        let inside: Vec<&Vertex> = drawing.vertices.iter().filter(|vertex| vertex.agent == agent).collect();
        if inside.is_empty() {
            continue;
        }
        let boxed = agent != 0;
        if boxed {
            out.push_str(&format!("  subgraph a{agent}[{}]\n", quote(title)));
        }
        for vertex in inside {
            let indent = if boxed { "    " } else { "  " };
            out.push_str(&format!("{indent}{}\n", node(vertex)));
        }
        if boxed {
            out.push_str("  end\n");
        }
    }
    for arrow in &drawing.arrows {
        let (Some(from), Some(to)) = (drawing.vertices.get(arrow.from), drawing.vertices.get(arrow.to))
        else {
            continue;
        };
        let line = match (arrow.optional, to.shape) {
            (true, _) => "-.->",
            (false, Shape::Step) => "---",
            (false, _) => "-->",
        };
        let label = match arrow.label.is_empty() {
            true => String::new(),
            false => format!("|{}|", quote(&arrow.label)),
        };
        out.push_str(&format!("  {} {line}{label} {}\n", from.id, to.id));
    }
    out
}

fn node(vertex: &Vertex) -> String {
    let label = match vertex.kind.is_empty() || vertex.kind == vertex.name {
        true => quote(&vertex.name),
        false => quote(&format!("{}\n{}", vertex.name, vertex.kind)),
    };
    let id = &vertex.id;
    match vertex.shape {
        Shape::Source => format!("{id}>{label}]"),
        Shape::Channel => format!("{id}[({label})]"),
        Shape::Topic => format!("{id}[({label})]"),
        Shape::Sink => format!("{id}({label})"),
        Shape::Group => format!("{id}[[{label}]]"),
        Shape::Errors => format!("{id}[/{label}/]"),
        Shape::Step => format!("{id}([{label}])"),
        Shape::Route => format!("{id}{{{label}}}"),
    }
}

/// Mermaid's text knows entities, not escapes.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '\n' => out.push_str("<br/>"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
