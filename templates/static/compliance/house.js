// Small helps on every page; each page works without them.
"use strict";

(() => {
  // Menus close when the person looks elsewhere.
  const menus = () => document.querySelectorAll("details.menu[open]");
  document.addEventListener("click", (event) => {
    for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) {
      const within = menu.contains(document.activeElement);
      menu.open = false;
      if (within) menu.querySelector("summary").focus();
    }
  });

  // A form is sent once. Its buttons rest after the browser has read them, so the pressed one still counts.
  const REST = 5000;
  const buttons = (form) => [...form.elements].filter((element) => element.type === "submit");
  const rest = (form, resting) => {
    form.toggleAttribute("data-sending", resting);
    for (const button of buttons(form)) button.disabled = resting;
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    setTimeout(() => rest(form, true));
    setTimeout(() => rest(form, false), REST);
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const form of document.querySelectorAll("form[data-sending]")) rest(form, false);
  });

  // To deny takes a reason; to approve does not.
  const decide = document.querySelector(".decide-form");
  if (decide) {
    const reason = decide.elements.reason;
    decide.addEventListener("click", (event) => {
      if (event.target.name === "deny") reason.required = true;
      if (event.target.name === "approve") reason.required = false;
    });
  }
})();
