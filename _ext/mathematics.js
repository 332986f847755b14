// typeset(tex, display) -> {svg, mathml} or {error}, on MathJax's own parts and without a browser.
function typesetter(macros) {
  const {adaptors, core, handlers, input, mathjax, output} = MathJax._;
  const adaptor = adaptors.liteAdaptor.liteAdaptor();
  handlers.html_ts.RegisterHTMLHandler(adaptor);
  const tex = new input.tex_ts.TeX({
    packages: ["base", "ams", "boldsymbol", "configmacros", "mathtools", "newcommand"],
    macros,
    formatError(_, error) {
      throw error;
    },
  });
  const svg = new output.svg_ts.SVG({font: new output.svg.fonts.tex_ts.TeXFont()});
  const page = mathjax.mathjax.document("", {InputJax: tex, OutputJax: svg});
  const mathml = new core.MmlTree.SerializedMmlVisitor.SerializedMmlVisitor();

  return function (source, display) {
    const item = new page.options.MathItem(source, tex, display);
    item.start.node = adaptor.body(page.document);
    item.setMetrics(16, 8, 1280, 1e6, 1); // px per em and ex; the sizes come back in ex
    try {
      item.convert(page);
    } catch (error) {
      if (error.id) return {error: error.message}; // what MathJax says of TeX it cannot read
      throw error;
    }
    return {svg: adaptor.innerHTML(item.typesetRoot), mathml: mathml.visitTree(item.root)};
  };
}
