// A button of its own copies the code of a panel, whose state Python writes.

function render({ model, el }) {
  tellState(model, () => stateText(model.get('values')));
  mount(el, copyButton(() => codeOf(model.get('code'), model.get('values'))));
}
export default { render };
