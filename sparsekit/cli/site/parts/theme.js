// Light or dark, as the system says or as the reader has chosen. Widgets and drawings look at the same attribute.
const darkSystem = matchMedia('(prefers-color-scheme: dark)');
const chosenTheme = () => { try { return localStorage.getItem('sparsekit-theme'); } catch { return null; } };
function showTheme(name = chosenTheme() ?? (darkSystem.matches ? 'dark' : 'light')) {
  document.body.dataset.jpThemeLight = String(name === 'light');
  document.documentElement.style.colorScheme = name;
  const button = document.getElementById('theme');
  if (button) button.setAttribute('aria-pressed', String(name === 'dark'));
}
darkSystem.addEventListener('change', () => showTheme());
showTheme();
document.addEventListener('DOMContentLoaded', () => {
  showTheme();
  if (innerWidth < 1061) document.querySelector('.side details')?.removeAttribute('open'); // where it stands above the text
  document.getElementById('theme').addEventListener('click', event => {
    const name = event.currentTarget.getAttribute('aria-pressed') === 'true' ? 'light' : 'dark';
    try { localStorage.setItem('sparsekit-theme', name); } catch { /* then the choice holds for this page */ }
    showTheme(name);
  });
});
