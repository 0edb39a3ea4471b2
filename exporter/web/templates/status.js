// A new page every five seconds, in place: what is unfolded and what has the focus stay.
let renewed = Date.now();
const renew = async () => {
  const copying = !getSelection().isCollapsed && Date.now() - renewed < 60000;
  if (document.hidden || copying) return;
  const root = document.documentElement;
  try {
    const answer = await fetch(location.href, {signal: AbortSignal.timeout(4500)});
    if (!answer.ok) throw answer.status;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!page.querySelector("main")) throw page.title; // somebody else's: to sign in, say
    for (const one of page.querySelectorAll("details")) one.open = document.getElementById(one.id)?.open ?? false;
    const focus = document.activeElement?.id;
    for (const part of ["header", "main"]) document.querySelector(part).replaceWith(page.querySelector(part));
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
    if (focus) document.getElementById(focus)?.focus({preventScroll: true});
    delete root.dataset.stale;
    renewed = Date.now();
  } catch {
    root.dataset.stale = "";
  }
};
setInterval(renew, 5000);
document.addEventListener("visibilitychange", renew);
