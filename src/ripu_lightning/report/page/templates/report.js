"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")].map(box => {
  const spec = JSON.parse(box.querySelector("script").textContent);
  box.replaceChildren();
  Plotly.newPlot(box, spec.data, spec.layout, {responsive: true, displaylogo: false, displayModeBar: false});
  return box;
});
function colour() {
  const style = getComputedStyle(document.documentElement);
  const [text, line] = ["--text", "--line"].map(name => style.getPropertyValue(name).trim());
  const change = {"font.color": text};
  for (const axis of ["xaxis", "yaxis"]) Object.assign(change, {[`${axis}.gridcolor`]: line, [`${axis}.linecolor`]: line, [`${axis}.zerolinecolor`]: line});
  for (const box of plots) Plotly.relayout(box, change);
}
colour();
dark.addEventListener("change", colour);

const why = document.getElementById("why");
let shown = null;
function hide() { shown = null; why.hidden = true; }
function show(rect) {
  shown = rect;
  why.textContent = rect.dataset.why;
  why.hidden = false;
  const at = rect.getBoundingClientRect(), size = why.getBoundingClientRect();
  const below = at.bottom + 8 + size.height < innerHeight;
  why.style.left = Math.max(8, Math.min(at.left, innerWidth - size.width - 8)) + "px";
  why.style.top = (below ? at.bottom + 8 : Math.max(8, at.top - 8 - size.height)) + "px";
}
for (const rect of document.querySelectorAll("rect[tabindex]")) {
  const title = rect.querySelector("title");
  rect.dataset.why = title.textContent;
  rect.setAttribute("aria-label", title.textContent);
  title.remove(); // or the browser would show it a second time
  for (const name of ["mouseenter", "focus", "click"]) rect.addEventListener(name, () => show(rect));
  for (const name of ["mouseleave", "blur"]) rect.addEventListener(name, hide);
}
addEventListener("scroll", () => { if (shown) show(shown); }, {passive: true}); // the tabulator key scrolls too
addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
