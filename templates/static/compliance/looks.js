// Shows what each kind of channel makes of the words in a form, while they are being written.
"use strict";

(() => {
  const panel = document.querySelector("[data-looks-url]");
  const form = panel && panel.closest("form");
  if (!form) return;
  const shown = panel.querySelector(".looks-shown");
  let timer = 0;
  let asked = 0;

  const show = async () => {
    const words = new FormData();
    for (const name of ["csrfmiddlewaretoken", "purpose", "variables", "subject", "body"]) {
      const field = form.elements.namedItem(name);
      if (field) words.append(name, field.value);
    }
    const number = ++asked;
    try {
      const response = await fetch(panel.dataset.looksUrl, { method: "POST", body: words });
      if (!response.ok || number !== asked) return; // signed out, or more was written meanwhile
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      shown.replaceChildren(...page.body.childNodes);
    } catch {
      // The server is restarting; the next word tries again.
    }
  };

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 400);
  });
  show();
})();
