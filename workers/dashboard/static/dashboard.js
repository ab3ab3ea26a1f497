// What pages do beyond HTML and htmx: dialogs, the theme, "Select all", and the slider that compares two pictures.
"use strict";

// A form that came into the place of dialogs is shown over the page; when it is closed, the focus goes back.
let opener = null;

document.addEventListener("htmx:before:request", (event) => {
  const button = event.target.closest?.("form.action button, form.selection button");
  if (button) opener = button;
});

document.addEventListener("htmx:after:swap", () => {
  const dialog = document.querySelector("#dialog-place > dialog");
  if (!dialog || dialog.open) return;
  dialog.showModal();
  dialog.querySelector("input[name=reason], select, input:not([type=hidden]), button")?.focus();
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus();
    opener = null;
  });
});

document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-close]")) event.target.closest("dialog").close();
});

// The theme changes without a reload; the server knows it by a cookie.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.getAttribute("action") !== "/theme") return;
  event.preventDefault();
  const root = document.documentElement;
  const isDark = root.dataset.theme === "dark"
    || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = isDark ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `darkroom_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict${secure}`;
});

document.addEventListener("change", (event) => {
  const all = event.target.closest?.("input[data-select-all]");
  if (!all) return;
  for (const box of all.form.querySelectorAll("input[name=id]")) box.checked = all.checked;
});

document.addEventListener("input", (event) => {
  const slider = event.target.closest?.("input[data-compare]");
  if (slider) slider.closest(".compare").style.setProperty("--shown", `${slider.value}%`);
});

// Times are shown in the reader's time zone; the tooltip says UTC.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(time.dateTime);
    const two = (number) => String(number).padStart(2, "0");
    time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
      + ` ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
    time.dataset.local = "";
  }
}
localTimes(document);
document.addEventListener("htmx:after:swap", () => localTimes(document));
