try {
  const theme = localStorage.getItem("autocaption-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage may be closed to a file */ }
addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("autocaption-theme", root.dataset.theme); } catch { /* as above */ }
  });
});
