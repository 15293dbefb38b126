"use strict";
// Draws the charts in the colours of the page, sorts tables, fills the list of contents.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function themedTrace(trace) {
    const { themed, ...given } = trace;
    if (themed === "scale") {
      return { ...given, colorscale: [[0, colour("low")], [1, colour("high")]] };
    }
    const line = colour(`c${themed % 8}`);
    return {
      ...given,
      line: { ...given.line, color: line },
      marker: { ...given.marker, color: line },
      error_y: given.error_y && { ...given.error_y, color: line },
    };
  }

  function themedLayout(given) {
    const grid = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false };
    return {
      height: 270,
      margin: { l: 52, r: 12, t: 8, b: 42 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("soft") },
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom" },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("accent") },
      ...given,
      xaxis: { ...grid, ...given.xaxis },
      yaxis: { ...grid, automargin: true, ...given.yaxis },
    };
  }

  function draw() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const chart = charts[place.dataset.chart];
      Plotly.react(place, chart.data.map(themedTrace), themedLayout(chart.layout), config);
    }
  }

  // Zooming into the steps of one chart shows the same steps in the others.
  function linkSteps() {
    const linked = [...document.querySelectorAll(".charts [data-chart]")];
    let busy = false;
    for (const place of linked) {
      place.on("plotly_relayout", (change) => {
        const range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
        const all = change["xaxis.autorange"];
        if (busy || (range[0] === undefined && !all)) return;
        busy = true;
        const update = all ? { "xaxis.autorange": true } : { "xaxis.range": range };
        const others = linked.filter((other) => other !== place);
        Promise.all(others.map((other) => Plotly.relayout(other, update))).then(() => {
          busy = false;
        });
      });
    }
  }

  const compare = new Intl.Collator(undefined, { numeric: true }).compare;

  function sortBy(table, column, head) {
    const wasUp = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", wasUp ? "descending" : "ascending");
    const body = table.tBodies[0];
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      // What has no number comes last in both directions.
      if (head.classList.contains("number") && (x === undefined || y === undefined)) {
        return (x === undefined) - (y === undefined);
      }
      const order =
        x === undefined
          ? compare(a.cells[column].textContent, b.cells[column].textContent)
          : Number(x) - Number(y);
      return wasUp ? -order : order;
    });
    body.append(...rows);
  }

  for (const head of document.querySelectorAll("th")) {
    head.querySelector("button").addEventListener("click", () => {
      sortBy(head.closest("table"), head.cellIndex, head);
    });
  }

  const contents = document.querySelector("nav");
  for (const part of document.querySelectorAll("main > section")) {
    const link = document.createElement("a");
    link.href = `#${part.id}`;
    link.textContent = part.querySelector("h2").textContent;
    contents.append(link);
  }

  draw();
  linkSteps();
  dark.addEventListener("change", draw);
})();
